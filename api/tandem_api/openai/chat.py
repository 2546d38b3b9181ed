"""Chat completions: the request as far as Tandem's own engines read it, and the answer, streamed or whole."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from tandem_api.openai.answers import DONE, Choice, TokenLogprob, UsageCount, around, compact, event
from tandem_api.openai.requests import Lenient, SamplingRequest


class ImageUrl(Lenient):
    """Where an image is: a URL or a data URL."""

    url: str
    detail: str | None = None


class Part(Lenient):
    """A part of a message's content: text, or an image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _holds_what_it_says(self) -> "Part":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs {self.type}")
        return self


def _as_parts(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, str):
        return ({"type": "text", "text": value},)
    if not isinstance(value, list):
        raise ValueError("must be a string or a list of parts")
    return value


def _as_text(value: Any) -> Any:
    # Some clients send a call's arguments as an object: OpenAI's API has a string (requirements 16.1 C4).
    return value if isinstance(value, str) else compact(value)


class CalledFunction(Lenient):
    """Name and arguments of an earlier tool call."""

    name: str
    arguments: Annotated[str, BeforeValidator(_as_text)] = "{}"


class ToolCall(Lenient):
    """A tool call of an earlier answer."""

    id: str = ""
    function: CalledFunction


class Message(Lenient):
    """A message of the conversation. Text parts are joined without a separator."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[tuple[Part, ...], BeforeValidator(_as_parts)] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None


class Function(Lenient):
    """A function that the model may call."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None


class Tool(Lenient):
    """A tool: a function."""

    type: Literal["function"] = "function"
    function: Function


class NamedFunction(Lenient):
    """The name of a function."""

    name: str


class ToolChoice(Lenient):
    """Which tool must, may or may not be called."""

    type: Literal["none", "auto", "required", "function"]
    function: NamedFunction | None = None


def _as_tool_choice(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class JsonSchema(Lenient):
    """A schema that the answer must fit."""

    name: str = ""
    schema_: dict[str, JsonValue] = Field(default_factory=dict, alias="schema")


class ResponseFormat(Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _holds_what_it_says(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is missing")
        return self


class ChatRequest(SamplingRequest):
    """The body of POST /v1/chat/completions."""

    messages: tuple[Message, ...] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: tuple[Tool, ...] | None = None
    tool_choice: Annotated[ToolChoice | None, BeforeValidator(_as_tool_choice)] = None
    response_format: ResponseFormat | None = None
    echo: bool | None = False

    @field_validator("tool_choice")
    @classmethod
    def _is_among_tools(cls, choice: ToolChoice | None, info: ValidationInfo) -> ToolChoice | None:
        if choice is None or choice.type in ("none", "auto"):
            return choice
        names = {tool.function.name for tool in info.data.get("tools") or ()}
        if not names:
            raise ValueError("needs tools")
        if choice.type == "function" and (choice.function is None or choice.function.name not in names):
            raise ValueError("names a function that is not among tools")
        return choice

    @field_validator("top_logprobs")
    @classmethod
    def _goes_with_logprobs(cls, count: int | None, info: ValidationInfo) -> int | None:
        if count and not info.data.get("logprobs"):
            raise ValueError("needs logprobs: true")
        return count

    @property
    def wanted_logprobs(self) -> int | None:
        """Alternatives to report for each token; None: no log probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class ChatEncoder:
    """Writes `chat.completion` and `chat.completion.chunk`.

    Args:
        response_id: the answer's "id".
        model: its "model".
        created: Unix seconds.
        include_usage: of `stream_options`.
        function: every choice is a call of this function.
    """

    def __init__(
        self, response_id: str, model: str, created: int, *, include_usage: bool = False, function: str = ""
    ) -> None:
        self._id = response_id
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._function = function
        self._text = [around(self._text_chunk, 0)]

    def opening(self, index: int) -> bytes:
        delta: dict[str, Any] = {"role": "assistant", "content": None if self._function else ""}
        first = event(self._chunk(index, delta))
        if not self._function:
            return first
        call = {
            "index": 0,
            "id": self._call_id(index),
            "type": "function",
            "function": {"name": self._function, "arguments": ""},
        }
        return first + event(self._chunk(index, {"tool_calls": [call]}))

    def text(self, index: int, escaped: bytes) -> bytes:
        while index >= len(self._text):
            self._text.append(around(self._text_chunk, len(self._text)))
        before, after = self._text[index]
        return before + escaped + after

    def detailed(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        return event(self._chunk(index, {"content": text}, logprobs=_logprobs(logprobs)))

    def closing(self, choice: Choice) -> bytes:
        return event(self._chunk(choice.index, {}, finish_reason=choice.finish_reason))

    def ending(self, usage: UsageCount) -> bytes:
        if not self._include_usage:
            return DONE
        return event(self._head("chat.completion.chunk") | {"choices": [], "usage": usage.as_dict()}) + DONE

    def body(self, choices: Sequence[Choice], usage: UsageCount) -> bytes:
        written = [
            {
                "index": choice.index,
                "message": self._message(choice),
                "logprobs": None if choice.logprobs is None else _logprobs(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ]
        return compact(self._head("chat.completion") | {"choices": written, "usage": usage.as_dict()}).encode()

    def _call_id(self, index: int) -> str:
        return f"call_{self._id.rpartition('-')[2]}_{index}"

    def _message(self, choice: Choice) -> dict[str, Any]:
        if choice.call is None:
            return {"role": "assistant", "content": choice.text, "refusal": None}
        function = {"name": choice.call.name, "arguments": choice.call.arguments}
        call = {"id": self._call_id(choice.index), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _text_chunk(self, index: int, text: str) -> dict[str, Any]:
        if self._function:
            return self._chunk(index, {"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return self._chunk(index, {"content": text})

    def _chunk(
        self, index: int, delta: dict[str, Any], *, finish_reason: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return chunk


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.raw)}

    return {"content": [one(token) | {"top_logprobs": [one(top) for top in token.top]} for token in tokens]}
