"""Streams of Messages and Responses, written block by block before their end is known."""

from dataclasses import replace
from typing import Protocol

from tandem_api.anthropic.answers import InputDeltas, MessagesEncoder
from tandem_api.openai.response_replies import Numbered, ResponseEncoder
from tandem_api.replies import Block, Finish, Reply, Text, ToolCall, Usage


class BlockWriter(Protocol):
    """Writes one stream. Each block ends where the next one begins."""

    def begins(self, usage: Usage) -> bytes:
        """The stream's first events; `usage` is what is known by then."""

    def block_begins(self, block: Block) -> bytes:
        """The end of the block before, and the beginning of this one, which has no text yet."""

    def delta(self, text: str) -> bytes:
        """More of the block that has begun last."""

    def ends(self, reply: Reply) -> bytes:
        """The last events; `reply` is all that was said. Where it was no block at all, an empty text comes first."""


class MessageBlocks:
    """A `BlockWriter` of Messages."""

    def __init__(self, encoder: MessagesEncoder) -> None:
        self._encoder = encoder
        self._index = -1
        self._open: Block = Text("")
        self._input = InputDeltas()

    def begins(self, usage: Usage) -> bytes:
        return self._encoder.begins(usage)

    def block_begins(self, block: Block) -> bytes:
        ended = self._encoder.block_ends(self._index, self._open) if self._index >= 0 else b""
        self._index, self._open, self._input = self._index + 1, block, InputDeltas()
        return ended + self._encoder.block_begins(self._index, block)

    def delta(self, text: str) -> bytes:
        if isinstance(self._open, ToolCall) and not (text := self._input.told(text)):
            return b""
        return self._encoder.delta(self._index, self._open, text)

    def ends(self, reply: Reply) -> bytes:
        begun = self.block_begins(Text("")) if self._index < 0 else b""
        ended = self._encoder.block_ends(self._index, self._open)
        return begun + ended + self._encoder.ends(reply.finish, reply.stop_sequence, reply.usage)


class ResponseBlocks:
    """A `BlockWriter` of Responses."""

    def __init__(self, encoder: ResponseEncoder) -> None:
        self._encoder = encoder
        self._events = Numbered()
        self._blocks: list[Block] = []
        self._texts: list[str] = []
        """Of the block that has begun last."""

    def begins(self, usage: Usage) -> bytes:
        return self._encoder.begins(self._events)

    def block_begins(self, block: Block) -> bytes:
        so_far = Reply((*self._blocks, block), Usage(0, 0), Finish.STOP)
        ended = self._item_ends(so_far) if self._blocks else b""
        self._blocks.append(block)
        self._texts = []
        return ended + self._encoder.item_begins(self._events, len(self._blocks) - 1, block)

    def delta(self, text: str) -> bytes:
        self._texts.append(text)
        return self._encoder.delta(self._events, len(self._blocks) - 1, self._blocks[-1], text)

    def ends(self, reply: Reply) -> bytes:
        begun = b"" if self._blocks else self.block_begins(Text(""))
        return begun + self._item_ends(reply) + self._encoder.ends(self._events, reply)

    def _item_ends(self, reply: Reply) -> bytes:
        said = replace(self._blocks[-1], text="".join(self._texts))
        return self._encoder.item_ends(self._events, len(self._blocks) - 1, said, reply)
