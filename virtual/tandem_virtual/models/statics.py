"""A model that always says the same."""

import base64
import hashlib
from dataclasses import dataclass
from typing import ClassVar

from tandem_api.conversations import Ask
from tandem_api.replies import Block, Finish, Text, Thinking

from tandem_virtual.chunking import chunks
from tandem_virtual.estimating import estimate
from tandem_virtual.models.failures import Failure, Stage
from tandem_virtual.models.model import Act, Says, VirtualModel


@dataclass(frozen=True, kw_only=True)
class StaticModel(VirtualModel):
    """Says `content`, after what it thinks, or fails on the way."""

    type: ClassVar[str] = "static"

    content: str = ""
    stream_chunks: tuple[str, ...] = ()
    """The content as it is streamed; empty: in pieces of three tokens."""
    thinking: str = ""
    """Said before the content, except to those who refuse it."""
    finish: Finish = Finish.STOP
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if self.stream_chunks and "".join(self.stream_chunks) != self.content:
            raise ValueError("stream_chunks must join to content, so that both kinds of answers say the same")

    def act(self, ask: Ask) -> Act:
        if self.failure is not None and self.failure.stage is Stage.PRE_CONTENT:
            return self.failure
        return spoken(ask, self.content, self.stream_chunks, self.thinking, self.finish, self.failure)


def spoken(
    ask: Ask,
    content: str,
    pieces: tuple[str, ...] = (),
    thinking: str = "",
    finish: Finish = Finish.STOP,
    failure: Failure | None = None,
) -> Says:
    """Text, and thinking before it where the request does not refuse that."""
    blocks: tuple[Block, ...] = (Text(content),)
    cut: tuple[tuple[str, ...], ...] = (pieces or chunks(content),)
    completion = estimate(content)
    if thinking and ask.thinks:
        blocks = (thought(thinking), *blocks)
        cut = (chunks(thinking), *cut)
        completion += estimate(thinking)
    return Says(blocks, cut, completion, finish, failure)


def thought(text: str) -> Thinking:
    """Thinking with a signature, which clients hand back and nobody checks."""
    return Thinking(text, base64.b64encode(hashlib.sha256(text.encode("utf-8", "replace")).digest()).decode())
