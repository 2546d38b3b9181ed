"""The APIs that can be asked: how a request looks, and who reads the answer."""

from typing import Any, Final, Protocol

from tandem_cli.benchmark import events
from tandem_cli.benchmark.events import Heard
from tandem_cli.benchmark.prompts import Prompt

ANTHROPIC_VERSION: Final = "2023-06-01"


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
            ValueError: it is not what the API says.
        """


class _OpenAI:
    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}


class Chat(_OpenAI):
    """OpenAI's chat completions."""

    path = "chat/completions"
    heard = staticmethod(events.openai)

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        streamed = {"stream_options": {"include_usage": True}} if stream else {}
        limit = {"max_tokens": prompt.max_tokens}
        return {"model": model, "messages": list(prompt.messages), **limit, "stream": stream, **streamed}


class Completions(_OpenAI):
    """OpenAI's completions: the messages' texts, one below the other."""

    path = "completions"
    heard = staticmethod(events.openai)

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        text = "\n".join(str(message["content"]) for message in prompt.messages)
        streamed = {"stream_options": {"include_usage": True}} if stream else {}
        return {"model": model, "prompt": text, "max_tokens": prompt.max_tokens, "stream": stream, **streamed}


class Responses(_OpenAI):
    """OpenAI's responses, without state."""

    path = "responses"
    heard = staticmethod(events.responses)

    def body(self, model: str, prompt: Prompt, stream: bool) -> dict[str, Any]:
        limit = {"max_output_tokens": prompt.max_tokens}
        return {"model": model, "input": list(prompt.messages), **limit, "stream": stream, "store": False}


class Messages:
    """Anthropic's messages."""

    path = "messages"
    heard = staticmethod(events.anthropic)

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


APIS: Final[dict[str, Api]] = {
    "chat": Chat(),
    "completions": Completions(),
    "responses": Responses(),
    "messages": Messages(),
}
