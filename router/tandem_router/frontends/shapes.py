"""How each API writes a failure: as the body of an HTTP error, and as the end of a stream that had begun."""

from typing import Protocol

from tandem_api.anthropic import errors as anthropic
from tandem_api.openai import errors as openai
from tandem_api.openai.response_replies import failure_event

from tandem_router.failures import CallFailed, code_name


def is_anthropic(path: str) -> bool:
    """The path is one of Anthropic's API."""
    return "/v1/messages" in path or path.startswith("/virtual/anthropic/")


class Shape(Protocol):
    """One API's way. `request_id` is what the answer's headers say."""

    def body(self, failure: CallFailed, request_id: str) -> tuple[int, bytes]:
        """HTTP status and body, before the answer has begun."""

    def event(self, failure: CallFailed, request_id: str) -> bytes:
        """The last events of a stream."""


class OpenAiShape:
    """Chat completions and completions."""

    def body(self, failure: CallFailed, request_id: str) -> tuple[int, bytes]:
        return openai.failure_body(
            code_name(failure.code), failure.message, param=failure.param or None, type=failure.type
        )

    def event(self, failure: CallFailed, request_id: str) -> bytes:
        return openai.failure_event(
            code_name(failure.code), failure.message, param=failure.param or None, type=failure.type
        )


class ResponsesShape(OpenAiShape):
    """Responses: OpenAI's bodies, and events that have a name."""

    def event(self, failure: CallFailed, request_id: str) -> bytes:
        return failure_event(code_name(failure.code), failure.message, param=failure.param or None, type=failure.type)


class AnthropicShape:
    """Messages and their counting."""

    def body(self, failure: CallFailed, request_id: str) -> tuple[int, bytes]:
        return anthropic.failure_body(code_name(failure.code), failure.message, request_id=request_id)

    def event(self, failure: CallFailed, request_id: str) -> bytes:
        return anthropic.failure_event(code_name(failure.code), failure.message, request_id=request_id)
