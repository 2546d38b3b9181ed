"""Messages: the answer, whole and as the events of a stream.

The events' grammar: `message_start (content_block_start content_block_delta* content_block_stop)* message_delta
message_stop`, blocks numbered from 0, each closed before the next begins (requirements 2.4, 16.2).
"""

from collections.abc import Sequence
from typing import Any, Final

import pydantic_core

from tandem_api.anthropic.errors import error_event
from tandem_api.openai.answers import compact
from tandem_api.replies import Block, Events, Finish, Reply, Text, Thinking, ToolCall, Usage

STOP_REASONS: Final = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.CONTENT_FILTER: "refusal",
    Finish.STOP_SEQUENCE: "stop_sequence",
}


class MessagesEncoder:
    """Writes `message` and its events.

    Args:
        response_id: the answer's "id"; ids of tool calls are made of what follows its last `_`.
        model: its "model".
    """

    def __init__(self, response_id: str, model: str) -> None:
        self._id = response_id
        self._model = model
        self._key = response_id.rpartition("_")[2]

    def body(self, reply: Reply) -> bytes:
        content = [self._block(index, block) for index, block in enumerate(reply.blocks)]
        end = {"stop_reason": STOP_REASONS[reply.finish], "stop_sequence": reply.stop_sequence or None}
        return compact(self._message(reply.role, content) | end | {"usage": _usage(reply.usage)}).encode()

    def events(self, reply: Reply, pieces: Sequence[Sequence[str]]) -> Events:
        chunks: list[bytes] = []
        for index, (block, texts) in enumerate(zip(reply.blocks, pieces, strict=True)):
            deltas = [self.delta(index, block, text) for text in texts]
            deltas[0] = self.block_begins(index, block) + deltas[0]
            deltas[-1] += self.block_ends(index, block)
            chunks += deltas
        closing = self.ends(reply.finish, reply.stop_sequence, reply.usage)
        return Events(self.begins(reply.usage, reply.role), tuple(chunks), closing)

    def begins(self, usage: Usage, role: str = "assistant") -> bytes:
        """A stream's first event."""
        start = self._message(role, []) | {
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage, started=True),
        }
        return _event("message_start", message=start)

    def block_begins(self, index: int, block: Block) -> bytes:
        """A block's first event; what `block` says does not matter."""
        match block:
            case Text():
                begun: dict[str, Any] = {"type": "text", "text": ""}
            case Thinking():
                begun = {"type": "thinking", "thinking": "", "signature": ""}
            case ToolCall():
                begun = self._tool_use(index, block) | {"input": {}}
        return _event("content_block_start", index=index, content_block=begun)

    def delta(self, index: int, block: Block, text: str) -> bytes:
        """More of a block of this kind."""
        match block:
            case Text():
                delta = {"type": "text_delta", "text": text}
            case Thinking():
                delta = {"type": "thinking_delta", "thinking": text}
            case ToolCall():
                delta = {"type": "input_json_delta", "partial_json": text}
        return _event("content_block_delta", index=index, delta=delta)

    def block_ends(self, index: int, block: Block) -> bytes:
        """A block's last events."""
        end = _event("content_block_stop", index=index)
        if isinstance(block, Thinking) and block.signature:
            signed = {"type": "signature_delta", "signature": block.signature}
            return _event("content_block_delta", index=index, delta=signed) + end
        return end

    def ends(self, finish: Finish, stop_sequence: str, usage: Usage) -> bytes:
        """A stream's last events."""
        delta = {"stop_reason": STOP_REASONS[finish], "stop_sequence": stop_sequence or None}
        return _event("message_delta", delta=delta, usage=_usage(usage)) + _event("message_stop")

    def failure(self, message: str, type: str) -> bytes:
        return error_event(message, type=type)

    def _message(self, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": role, "model": self._model, "content": content}

    def _block(self, index: int, block: Block) -> dict[str, Any]:
        match block:
            case Text():
                return {"type": "text", "text": block.text}
            case Thinking():
                return {"type": "thinking", "thinking": block.text, "signature": block.signature}
            case ToolCall():
                return self._tool_use(index, block) | {"input": tool_input(block.text)}

    def _tool_use(self, index: int, call: ToolCall) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{self._key}_{index}", "name": call.name}


def tool_input(arguments: str) -> dict[str, Any]:
    """The input of a call, of arguments that may be cut: as much as clients make of the deltas of a stream."""
    try:
        value = pydantic_core.from_json(arguments or "{}", allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class InputDeltas:
    """What the deltas of one call's input say: nothing at all where its arguments begin as no object.

    A model that nothing holds to a schema may call with a number or a text. A client reads a call's input again with
    every delta, and breaks where that is no object; the whole answer's `tool_input` is empty then.
    """

    def __init__(self) -> None:
        self._held = ""
        self._begins: str | None = None
        """The first character that is no space."""

    def told(self, text: str) -> str:
        """What may be told for the next piece of the arguments."""
        if self._begins is None:
            self._held += text
            self._begins, text = self._held.lstrip()[:1] or None, self._held
        return text if self._begins == "{" else ""


def _event(type: str, **members: Any) -> bytes:
    return f"event: {type}\ndata: {compact({'type': type, **members})}\n\n".encode()


def _usage(usage: Usage, *, started: bool = False) -> dict[str, Any]:
    """Anthropic counts cached tokens beside `input_tokens`, not in it."""
    counts: dict[str, Any] = {
        "input_tokens": max(usage.prompt - usage.cached - usage.cache_write, 0),
        "output_tokens": 0 if started else usage.completion,
    }
    if usage.cached:
        counts["cache_read_input_tokens"] = usage.cached
    if usage.cache_write:
        counts["cache_creation_input_tokens"] = usage.cache_write
    if usage.reasoning and not started:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts
