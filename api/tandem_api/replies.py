"""What a model says, whichever API asked for it: the one value that all surfaces are written from.

Chat completions, Responses and Messages differ in shape, not in content. An encoder for each writes the same `Reply`,
whole or as a stream, so that no surface can say more or less than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Text:
    """A part of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought first. `signature` is what a client hands back with it on Messages."""

    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function. `text` is its arguments: a JSON object."""

    name: str
    text: str


Block = Text | Thinking | ToolCall


class Finish(StrEnum):
    """Why a reply ends, in the words of chat completions; `STOP_SEQUENCE` is "stop" there."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    STOP_SEQUENCE = "stop_sequence"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `cached` and `cache_write` are parts of `prompt`, `reasoning` is one of `completion`; 0: not told."""

    prompt: int
    completion: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    blocks: tuple[Block, ...]
    usage: Usage
    finish: Finish = Finish.STOP
    stop_sequence: str = ""
    """The one that ended the reply."""
    role: str = "assistant"
    tells_usage: bool = False
    """Streams end with usage, wanted or not, where the surface leaves that open."""


@dataclass(frozen=True, slots=True)
class Events:
    """A reply as the bytes of a stream: `opening`, each of `chunks` when its time comes, `closing`."""

    opening: bytes
    chunks: tuple[bytes, ...]
    """One for each piece; with what begins and ends the block that the piece is of."""
    closing: bytes
    """Finish reason, usage and terminal event."""


class ReplyEncoder(Protocol):
    """Writes the answer to one request."""

    def body(self, reply: Reply) -> bytes:
        """The whole answer as one JSON body."""

    def events(self, reply: Reply, pieces: Sequence[Sequence[str]]) -> Events:
        """The answer as a stream; `pieces` are the texts of each block, cut, and join to them."""

    def failure(self, message: str, type: str) -> bytes:
        """The last bytes of a stream that fails after it has begun."""


def whole(reply: Reply) -> list[list[str]]:
    """Every block as one piece."""
    return [[block.text] for block in reply.blocks]
