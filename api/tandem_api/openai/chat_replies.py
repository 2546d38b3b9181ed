"""Chat completions written from a `Reply`, whole and in chunks.

Chat has one text, not blocks: texts are joined, and so is thinking, under `reasoning` as in vLLM. Where a reply has no
text at all, `content` is null (requirements 16.1 C14).
"""

from collections.abc import Sequence
from typing import Any, Final

from tandem_api.openai.answers import DONE, compact, event
from tandem_api.openai.errors import error_event
from tandem_api.replies import Events, Finish, Reply, Text, Thinking, ToolCall, Usage

FINISH_REASONS: Final = {finish: finish.value for finish in Finish} | {Finish.STOP_SEQUENCE: "stop"}


class ChatReplyEncoder:
    """Writes `chat.completion` and `chat.completion.chunk`.

    Args:
        response_id: the answer's "id"; ids of tool calls are made of what follows its last `-`.
        model: its "model".
        created: Unix seconds.
        include_usage: of `stream_options`.
    """

    def __init__(self, response_id: str, model: str, created: int, *, include_usage: bool = False) -> None:
        self._id = response_id
        self._key = response_id.rpartition("-")[2]
        self._model = model
        self._created = created
        self._include_usage = include_usage

    def body(self, reply: Reply) -> bytes:
        texts = [block.text for block in reply.blocks if isinstance(block, Text)]
        thoughts = [block.text for block in reply.blocks if isinstance(block, Thinking)]
        calls = [block for block in reply.blocks if isinstance(block, ToolCall)]
        message: dict[str, Any] = {"role": reply.role, "content": "".join(texts) if texts else None, "refusal": None}
        if thoughts:
            message["reasoning"] = "".join(thoughts)
        if calls:
            message["tool_calls"] = [self._call(index, call) for index, call in enumerate(calls)]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": FINISH_REASONS[reply.finish],
        }
        return compact(
            self._head("chat.completion") | {"choices": [choice], "usage": usage_object(reply.usage)}
        ).encode()

    def events(self, reply: Reply, pieces: Sequence[Sequence[str]]) -> Events:
        has_text = any(isinstance(block, Text) for block in reply.blocks)
        opening = self._chunk({"role": reply.role, "content": "" if has_text else None})
        chunks: list[bytes] = []
        calls = 0
        for block, texts in zip(reply.blocks, pieces, strict=True):
            match block:
                case Text():
                    chunks += [self._chunk({"content": text}) for text in texts]
                case Thinking():
                    chunks += [self._chunk({"reasoning": text}) for text in texts]
                case ToolCall():
                    chunks += self._call_chunks(calls, block, texts)
                    calls += 1
        closing = self._chunk({}, FINISH_REASONS[reply.finish])
        if self._include_usage or reply.tells_usage:
            closing += event(self._head("chat.completion.chunk") | {"choices": [], "usage": usage_object(reply.usage)})
        return Events(opening, tuple(chunks), closing + DONE)

    def failure(self, message: str, type: str) -> bytes:
        return error_event(message, type=type)

    def _call(self, index: int, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.text}
        return {"id": f"call_{self._key}_{index}", "type": "function", "function": function}

    def _call_chunks(self, index: int, call: ToolCall, pieces: Sequence[str]) -> list[bytes]:
        first = {"index": index, **self._call(index, ToolCall(call.name, pieces[0]))}
        rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces[1:]]
        return [self._chunk({"tool_calls": [delta]}) for delta in (first, *rest)]

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
        return event(chunk | {"usage": None} if self._include_usage else chunk)


def usage_object(usage: Usage) -> dict[str, Any]:
    """`usage` of a chat completion: details are told where there are any (requirements VS-30)."""
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
    }
    details = {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write}
    if told := {name: count for name, count in details.items() if count}:
        counts["prompt_tokens_details"] = told
    if usage.reasoning:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return counts
