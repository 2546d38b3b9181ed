"""The APIs that can be asked: how a request looks, and what an event of an answer says."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tandem_cli.benchmark.prompts import Prompt

ANTHROPIC_VERSION: Final = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Heard:
    """What an event, or a whole answer, says as far as it is measured."""

    content: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    over: bool = False
    """A stream's own end: one that ends without was cut."""
    failed: bool = False


class Api(Protocol):
    """One way to ask."""

    @property
    def path(self) -> str:
        """Behind /v1."""

    def headers(self, key: str) -> dict[str, str]:
        """Of a request; `key` may be empty."""

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        """Of a request."""

    def heard(self, data: bytes) -> Heard:
        """What the data of an event says, or a whole answer.

        Raises:
            ValueError: it is no JSON object.
        """


class _OpenAI:
    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}


class Chat(_OpenAI):
    """OpenAI's chat completions."""

    path = "chat/completions"

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        streamed = {"stream_options": {"include_usage": True}} if stream else {}
        limit = {"max_tokens": prompt.max_tokens}
        return {"model": model, "messages": list(prompt.messages), **limit, "stream": stream, **streamed}

    def heard(self, data: bytes) -> Heard:
        return _choices(data, _speaks)


class Completions(_OpenAI):
    """OpenAI's completions: the messages' texts, one below the other."""

    path = "completions"

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        text = "\n".join(str(message["content"]) for message in prompt.messages)
        streamed = {"stream_options": {"include_usage": True}} if stream else {}
        return {"model": model, "prompt": text, "max_tokens": prompt.max_tokens, "stream": stream, **streamed}

    def heard(self, data: bytes) -> Heard:
        return _choices(data, lambda choice: bool(choice.get("text")))


class Responses(_OpenAI):
    """OpenAI's responses, without state."""

    path = "responses"

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        limit = {"max_output_tokens": prompt.max_tokens}
        return {"model": model, "input": list(prompt.messages), **limit, "stream": stream, "store": False}

    def heard(self, data: bytes) -> Heard:
        event = _object(data)
        kind = str(event.get("type", ""))
        whole = event.get("response") or event
        usage = _members(whole, "usage") if isinstance(whole, dict) else {}
        return Heard(
            content=kind.endswith(".delta"),
            prompt_tokens=int(usage.get("input_tokens") or 0),
            output_tokens=int(usage.get("output_tokens") or 0),
            over=kind in ("response.completed", "response.incomplete"),
            failed=kind in ("error", "response.failed"),
        )


class Messages:
    """Anthropic's messages."""

    path = "messages"

    def headers(self, key: str) -> dict[str, str]:
        return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": key} if key else {})}

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        system = [str(message["content"]) for message in prompt.messages if message["role"] == "system"]
        return {
            "model": model,
            "max_tokens": prompt.max_tokens,
            "messages": [message for message in prompt.messages if message["role"] != "system"],
            **({"system": "\n".join(system)} if system else {}),
            "stream": stream,
        }

    def heard(self, data: bytes) -> Heard:
        event = _object(data)
        kind = event.get("type")
        usage = {**_members(_members(event, "message"), "usage"), **_members(event, "usage")}
        delta = _members(event, "delta")
        return Heard(
            content=kind == "content_block_delta"
            and any(delta.get(name) for name in ("text", "thinking", "partial_json")),
            prompt_tokens=int(usage.get("input_tokens") or 0),
            output_tokens=int(usage.get("output_tokens") or 0) if kind in ("message_delta", "message") else 0,
            over=kind == "message_stop",
            failed=kind == "error",
        )


APIS: Final[dict[str, Api]] = {
    "chat": Chat(),
    "completions": Completions(),
    "responses": Responses(),
    "messages": Messages(),
}


def _choices(data: bytes, speaks: Callable[[Mapping[str, Any]], bool]) -> Heard:
    if data == b"[DONE]":
        return Heard(over=True)
    event = _object(data)
    choices = event.get("choices") or ()
    usage = _members(event, "usage")
    return Heard(
        content=any(speaks(choice) for choice in choices),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        failed="error" in event,
    )


def _speaks(choice: Mapping[str, Any]) -> bool:
    said = _members(choice, "delta")
    return any(said.get(name) for name in ("content", "reasoning", "reasoning_content", "tool_calls", "refusal"))


def _object(data: bytes) -> dict[str, Any]:
    event = json.loads(data)
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")
    return event


def _members(event: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = event.get(name)
    return found if isinstance(found, dict) else {}
