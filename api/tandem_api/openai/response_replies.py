"""Responses written from a `Reply`: each block is an item of the output.

Streams have OpenAI's own events, with the names, numbers and ids that its clients put a response together by, and end
in `data: [DONE]` (requirements VS-62).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tandem_api.openai.answers import DONE, compact
from tandem_api.openai.errors import error_kind, error_object
from tandem_api.replies import Block, Events, Finish, Reply, Text, Thinking, ToolCall, Usage

_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Members of the request that a response repeats, and what they are where the request has none."""
_INCOMPLETE: Final = {Finish.LENGTH: "max_output_tokens", Finish.CONTENT_FILTER: "content_filter"}


class ResponseEncoder:
    """Writes `response` and its events.

    Args:
        response_id: the answer's "id"; ids of items are made of what follows its last `-`.
        model: its "model".
        created: Unix seconds.
        given: the request's JSON.
    """

    def __init__(self, response_id: str, model: str, created: int, given: Mapping[str, Any]) -> None:
        echoed = {name: default if given.get(name) is None else given[name] for name, default in _ECHOED.items()}
        self._key = response_id.rpartition("-")[2]
        self._response = {
            "id": response_id,
            "object": "response",
            "created_at": created,
            "model": model,
            **echoed,
            "background": False,
            "error": None,
            "previous_response_id": None,
            "store": False,
        }

    def body(self, reply: Reply) -> bytes:
        return compact(self._ended(reply)).encode()

    def events(self, reply: Reply, pieces: Sequence[Sequence[str]]) -> Events:
        events = Numbered()
        opening = self.begins(events)
        chunks: list[bytes] = []
        for index, (block, texts) in enumerate(zip(reply.blocks, pieces, strict=True)):
            before = self.item_begins(events, index, block)
            deltas = [self.delta(events, index, block, text) for text in texts]
            deltas[0] = before + deltas[0]
            deltas[-1] += self.item_ends(events, index, block, reply)
            chunks += deltas
        return Events(opening, tuple(chunks), self.ends(events, reply))

    def begins(self, events: "Numbered") -> bytes:
        """A stream's first events."""
        begun = self._response | {"status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
        return events.write("response.created", response=begun) + events.write("response.in_progress", response=begun)

    def item_begins(self, events: "Numbered", index: int, block: Block, role: str = "assistant") -> bytes:
        """An item's first events; what `block` says does not matter."""
        item = self._item(index, block, None, Finish.STOP, role, last=False)
        added = events.write("response.output_item.added", output_index=index, item=item)
        if isinstance(block, ToolCall):
            return added
        return added + events.write("response.content_part.added", **self._place(index, block), part=_part(block, ""))

    def delta(self, events: "Numbered", index: int, block: Block, text: str) -> bytes:
        """More of an item of this kind."""
        place = self._place(index, block)
        match block:
            case Text():
                return events.write("response.output_text.delta", **place, delta=text, logprobs=[])
            case Thinking():
                return events.write("response.reasoning_text.delta", **place, delta=text)
            case ToolCall():
                return events.write("response.function_call_arguments.delta", **place, delta=text)

    def item_ends(self, events: "Numbered", index: int, block: Block, reply: Reply) -> bytes:
        """An item's last events."""
        place = self._place(index, block)
        match block:
            case Text():
                after = events.write("response.output_text.done", **place, text=block.text, logprobs=[])
                after += events.write("response.content_part.done", **place, part=_part(block, block.text))
            case Thinking():
                after = events.write("response.reasoning_text.done", **place, text=block.text)
                after += events.write("response.content_part.done", **place, part=_part(block, block.text))
            case ToolCall():
                done = {"name": block.name, "arguments": block.text}
                after = events.write("response.function_call_arguments.done", **place, **done)
        finished = self._item(index, block, block.text, reply.finish, reply.role, last=index == len(reply.blocks) - 1)
        return after + events.write("response.output_item.done", output_index=index, item=finished)

    def ends(self, events: "Numbered", reply: Reply) -> bytes:
        """A stream's last events."""
        ended = self._ended(reply)
        return events.write(f"response.{ended['status']}", response=ended) + DONE

    def failure(self, message: str, type: str) -> bytes:
        return error_event(message, type=type)

    def _ended(self, reply: Reply) -> dict[str, Any]:
        reason = _INCOMPLETE.get(reply.finish)
        return self._response | {
            "status": "incomplete" if reason else "completed",
            "incomplete_details": {"reason": reason} if reason else None,
            "output": [
                self._item(index, block, block.text, reply.finish, reply.role, last=index == len(reply.blocks) - 1)
                for index, block in enumerate(reply.blocks)
            ],
            "usage": _usage(reply.usage),
        }

    def _item(
        self, index: int, block: Block, text: str | None, finish: Finish, role: str, *, last: bool
    ) -> dict[str, Any]:
        """An item as it ends, or, without a text, as it begins."""
        status = "in_progress" if text is None else "incomplete" if finish in _INCOMPLETE and last else "completed"
        id = self._item_id(index, block)
        match block:
            case Text():
                content = [] if text is None else [_part(block, text)]
                return {
                    "id": id,
                    "type": "message",
                    "role": role,
                    "status": status,
                    "content": content,
                }
            case Thinking():
                content = [] if text is None else [_part(block, text)]
                return {
                    "id": id,
                    "type": "reasoning",
                    "summary": [],
                    "status": status,
                    "content": content,
                }
            case ToolCall():
                return {
                    "id": id,
                    "type": "function_call",
                    "call_id": f"call_{self._key}_{index}",
                    "name": block.name,
                    "arguments": text or "",
                    "status": status,
                }

    def _place(self, index: int, block: Block) -> dict[str, Any]:
        place: dict[str, Any] = {"item_id": self._item_id(index, block), "output_index": index}
        return place if isinstance(block, ToolCall) else place | {"content_index": 0}

    def _item_id(self, index: int, block: Block) -> str:
        prefix = "msg" if isinstance(block, Text) else "rs" if isinstance(block, Thinking) else "fc"
        return f"{prefix}_{self._key}_{index}"


def error_event(message: str, *, type: str, param: str | None = None, code: str | None = None) -> bytes:
    """The last bytes of a stream that failed after it had begun.

    Two shapes in one: OpenAI's event, and the error under `error` that its clients raise (requirements VS-62).
    """
    error = error_object(message, type=type, param=param, code=code)
    event = {"type": "error", "code": error["code"], "message": message, "param": error["param"], "error": error}
    return f"event: error\ndata: {compact(event)}\n\n".encode() + DONE


def failure_event(name: str, message: str, *, param: str | None = None, type: str = "") -> bytes:
    """`error_event` of a failed call: `name` is its ErrorCode's; `type` goes before the kind's."""
    kind = error_kind(name)
    return error_event(message, type=type or kind.type, param=param, code=kind.code)


class Numbered:
    """Events of one stream, numbered in the order of their writing."""

    def __init__(self) -> None:
        self._count = 0

    def write(self, type: str, **members: Any) -> bytes:
        written = {"type": type, "sequence_number": self._count, **members}
        self._count += 1
        return f"event: {type}\ndata: {compact(written)}\n\n".encode()


def _part(block: Text | Thinking, text: str) -> dict[str, Any]:
    if isinstance(block, Thinking):
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
