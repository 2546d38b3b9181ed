"""Text completions: the request as far as Tandem's own engines read it, and the answer, streamed or whole."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from tandem_api.openai.answers import DONE, Choice, TokenLogprob, UsageCount, around, compact, event
from tandem_api.openai.requests import SamplingRequest

_MAX_TOKEN_ID = 2**32 - 1

Prompt = str | tuple[int, ...]
"""A text, or its token ids."""


def _as_prompts(value: Any) -> tuple[Prompt, ...]:
    """One prompt or several, each a string or a list of token ids."""
    if isinstance(value, str) or (isinstance(value, list) and value and _is_id(value[0])):
        value = [value]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, a list of token ids, or a list of these")
    return tuple(_as_prompt(item) for item in value)


def _as_prompt(value: Any) -> Prompt:
    if not value:
        raise ValueError("must not be empty")
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(_is_id(item) for item in value):
        return tuple(value)
    raise ValueError("must be a string, a list of token ids, or a list of these")


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKEN_ID


class CompletionRequest(SamplingRequest):
    """The body of POST /v1/completions."""

    prompt: Annotated[Any, BeforeValidator(_as_prompts)]
    echo: bool | None = False
    logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = None
    suffix: str | None = None

    @field_validator("best_of")
    @classmethod
    def _is_n(cls, best_of: int | None, info: ValidationInfo) -> int | None:
        if best_of is not None and best_of != (info.data.get("n") or 1):
            raise ValueError("is supported only where it equals n")
        return best_of

    @field_validator("suffix")
    @classmethod
    def _is_empty(cls, suffix: str | None) -> str | None:
        if suffix:
            raise ValueError("is not supported")
        return suffix

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        prompts: tuple[Prompt, ...] = self.prompt
        return prompts

    @property
    def wanted_logprobs(self) -> int | None:
        """Alternatives to report for each token; None: no log probabilities at all."""
        return self.logprobs


class CompletionEncoder:
    """Writes `text_completion`, whole and in chunks.

    Args:
        response_id: the answer's "id".
        model: its "model".
        created: Unix seconds.
        include_usage: of `stream_options`.
        echoes: for each choice the text that goes before its answer (`echo`).
    """

    def __init__(
        self, response_id: str, model: str, created: int, *, include_usage: bool = False, echoes: Sequence[str] = ()
    ) -> None:
        self._head = {"id": response_id, "object": "text_completion", "created": created, "model": model}
        self._include_usage = include_usage
        self._echoes = echoes
        self._offsets: dict[int, int] = {}
        self._text: list[tuple[bytes, bytes]] = []

    def opening(self, index: int) -> bytes:
        return event(self._chunk(index, self._echoes[index])) if self._echoes else b""

    def text(self, index: int, escaped: bytes) -> bytes:
        while index >= len(self._text):
            self._text.append(around(self._chunk, len(self._text)))
        before, after = self._text[index]
        return before + escaped + after

    def detailed(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        offset = self._offsets.get(index, len(self._echo(index)))
        self._offsets[index] = offset + len(text)
        return event(self._chunk(index, text, logprobs=_logprobs(logprobs, offset)))

    def closing(self, choice: Choice) -> bytes:
        return event(self._chunk(choice.index, "", finish_reason=choice.finish_reason))

    def ending(self, usage: UsageCount) -> bytes:
        told = event(self._head | {"choices": [], "usage": usage.as_dict()}) if self._include_usage else b""
        return told + DONE

    def body(self, choices: Sequence[Choice], usage: UsageCount) -> bytes:
        written = []
        for choice in choices:
            echo = self._echo(choice.index)
            written.append(
                {
                    "index": choice.index,
                    "text": echo + choice.text,
                    "logprobs": None if choice.logprobs is None else _logprobs(choice.logprobs, len(echo)),
                    "finish_reason": choice.finish_reason,
                }
            )
        return compact(self._head | {"choices": written, "usage": usage.as_dict()}).encode()

    def _echo(self, index: int) -> str:
        return self._echoes[index] if self._echoes else ""

    def _chunk(
        self, index: int, text: str, *, finish_reason: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = self._head | {"choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{top.token: top.logprob for top in token.top} for token in tokens],
        "text_offset": offsets,
    }
