"""Answers of chat completions as those of Messages and Responses, whole and streamed: the way back of `as_chat`.

A whole answer is read as a stream of one chunk is, so that the two can't come to different things.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tandem_api.blocks import BlockWriter
from tandem_api.replies import Block, Finish, Reply, Text, Thinking, ToolCall, Usage

_FINISHES: Final = {finish.value: finish for finish in Finish} | {"function_call": Finish.TOOL_CALLS}
_THOUGHTS: Final = ("reasoning", "reasoning_content")
"""What servers call thinking: vLLM, and those that follow DeepSeek."""


class Unreadable(ValueError):
    """The answer is none of a chat completion; the text says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """More of an answer: the beginning of a block, or more of the block that has begun last."""

    begins: Block | None
    """Without text."""
    text: str


class ChatReading:
    """Reads one answer, chunk by chunk or whole."""

    def __init__(self) -> None:
        self.usage = Usage(0, 0)
        self._blocks: list[tuple[Block, list[str]]] = []
        self._call: int | None = None
        """The index of the last call, where the server gives one."""
        self._finish = ""
        self._stop = ""

    def read(self, answer: Mapping[str, Any]) -> Iterator[Piece]:
        """What a chunk, or a whole answer, says.

        Raises:
            Unreadable: nothing can be made of it.
        """
        self._count(answer.get("usage"))
        for choice in _objects(answer, "choices")[:1]:
            said = choice.get("delta") or choice.get("message") or {}
            if not isinstance(said, dict):
                raise Unreadable("its choice says nothing")
            for name in _THOUGHTS:
                if text := _text(said, name):
                    yield from self._more(Thinking(""), text)
                    break
            if text := _text(said, "content"):
                yield from self._more(Text(""), text)
            for call in _objects(said, "tool_calls"):
                yield from self._called(call)
            self._finish = _text(choice, "finish_reason") or self._finish
            stop = choice.get("stop_reason")  # vLLM's: the stop sequence, or the id of a token
            self._stop = stop if isinstance(stop, str) else self._stop

    def reply(self) -> Reply:
        """What was read, when it is over.

        Raises:
            Unreadable: it does not say why it ends.
        """
        blocks = tuple(replace(block, text="".join(texts)) for block, texts in self._blocks) or (Text(""),)
        if not self._finish:
            raise Unreadable("it does not say why it ends")
        finish = _FINISHES.get(self._finish, Finish.STOP)
        if finish is Finish.STOP and self._stop and not _whole_call(blocks[-1]):
            return Reply(blocks, self.usage, Finish.STOP_SEQUENCE, self._stop)
        if finish is Finish.STOP and isinstance(blocks[-1], ToolCall):
            finish = Finish.TOOL_CALLS  # a call that was asked for by name ends in "stop"
        return Reply(blocks, self.usage, finish)

    def _more(self, kind: Block, text: str) -> Iterator[Piece]:
        begins = not self._blocks or type(self._blocks[-1][0]) is not type(kind)
        if begins:
            self._blocks.append((kind, []))
        self._blocks[-1][1].append(text)
        yield Piece(kind if begins else None, text)

    def _called(self, call: Mapping[str, Any]) -> Iterator[Piece]:
        function = call.get("function")
        if not isinstance(function, dict):
            raise Unreadable("it has a call of no function")
        name, arguments, index = _text(function, "name"), _text(function, "arguments"), call.get("index")
        follows = bool(self._blocks) and isinstance(self._blocks[-1][0], ToolCall) and index == self._call
        # Who gives no index says each call at once, with its name.
        if name and not (follows and index is not None):
            self._call = index
            self._blocks.append((ToolCall(name, ""), []))
            yield Piece(self._blocks[-1][0], "")
        elif not follows:
            raise Unreadable("it has more of a call that has not begun, or is over")
        if arguments:
            self._blocks[-1][1].append(arguments)
            yield Piece(None, arguments)

    def _count(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt, completion = _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")
        self.usage = Usage(
            prompt,
            completion,
            cached=min(_number(usage.get("prompt_tokens_details"), "cached_tokens"), prompt),
            reasoning=min(_number(usage.get("completion_tokens_details"), "reasoning_tokens"), completion),
        )


class ChatStream:
    """Writes a stream of chat completions anew.

    Args:
        blocks: writes it.
    """

    def __init__(self, blocks: BlockWriter) -> None:
        self._blocks = blocks
        self._reading = ChatReading()
        self._begun = False

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """The events for a chunk; may be none.

        Raises:
            Unreadable: nothing can be made of it.
        """
        pieces = list(self._reading.read(chunk))
        begun = b"" if self._begun else self._blocks.begins(self._reading.usage)
        self._begun = True
        return begun + _written(self._blocks, pieces)

    def end(self) -> bytes:
        """The last events.

        Raises:
            Unreadable: the stream was not over.
        """
        return self._blocks.ends(self._reading.reply())


def _written(blocks: BlockWriter, pieces: Iterable[Piece]) -> bytes:
    return b"".join(
        (blocks.block_begins(piece.begins) if piece.begins is not None else b"")
        + (blocks.delta(piece.text) if piece.text else b"")
        for piece in pieces
    )


def _whole_call(block: Block) -> bool:
    """It can be run: the stop sequence came after it."""
    if not isinstance(block, ToolCall):
        return False
    try:
        json.loads(block.text or "{}")
    except ValueError:
        return False
    return True


def _objects(of: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = of.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Unreadable(f"its {name} are no list of objects")
    return value


def _text(of: Mapping[str, Any], name: str) -> str:
    value = of.get(name)
    if value is not None and not isinstance(value, str):
        raise Unreadable(f"its {name} is no text")
    return value or ""


def _number(of: Any, name: str) -> int:
    value = of.get(name) if isinstance(of, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
