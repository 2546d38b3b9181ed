"""What an answer holds, whichever API it is written in, and the seam to what writes it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

DONE: Final = b"data: [DONE]\n\n"
"""Ends every stream."""
STREAM_TYPE: Final = "text/event-stream; charset=utf-8"
JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class UsageCount:
    """Tokens of one call."""

    prompt: int
    completion: int
    cached: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log probability and the likeliest alternatives, itself among them."""

    token: str
    raw: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A tool call: `arguments` is JSON, or the beginning of it where the answer was cut."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished choice of an answer that is not streamed."""

    index: int
    text: str
    finish_reason: str
    logprobs: Sequence[TokenLogprob] | None = None
    call: FunctionCall | None = None
    stop: str = ""
    """The stop sequence that ended it."""


class Encoder(Protocol):
    """Writes one call's answer: events of a stream, or the whole body."""

    def opening(self, index: int) -> bytes:
        """What a choice's stream begins with; may be empty."""

    def text(self, index: int, escaped: bytes) -> bytes:
        """An event with more text. `escaped` is what stands between the quotes of a JSON string."""

    def detailed(self, index: int, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """An event with more text and the log probabilities of its tokens."""

    def closing(self, choice: Choice) -> bytes:
        """What ends a choice."""

    def ending(self, usage: UsageCount) -> bytes:
        """What ends the stream: usage, where it is wanted or the API always has it, and the terminal event."""

    def body(self, choices: Sequence[Choice], usage: UsageCount) -> bytes:
        """The whole answer as one JSON body."""


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def event(value: object) -> bytes:
    """A server-sent event with a value as JSON."""
    return b"data: " + compact(value).encode() + b"\n\n"


def escape(text: str) -> bytes:
    """What stands between the quotes of a JSON string."""
    return json.dumps(text)[1:-1].encode()


def around(make: Callable[[int, str], object], index: int) -> tuple[bytes, bytes]:
    """Cuts an event in two where its text goes, so that a chunk costs two concatenations."""
    mark = "\x00text\x00"
    before, _, after = event(make(index, mark)).partition(escape(mark))
    return before, after
