"""The grammar of a stream of Messages, kept whatever an engine says.

`message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop`, blocks
numbered from 0, each closed before the next one begins, and at least one of them: a whole answer that says nothing has
an empty text block, so a stream has it, too (requirements 2.4, 16.2).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tandem_api.anthropic.answers import InputDeltas, tool_input

Event = dict[str, Any]

_BEGINNINGS: Final[Mapping[str, Event]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_KINDS: Final = {
    "text_delta": "text",
    "input_json_delta": "tool_use",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
}
_TEXTS: Final = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
"""Where the kinds of deltas have what they add."""


class BrokenStream(Exception):
    """The events make no message: something is missing that can't be made up."""


class MessageStream:
    """Mends one stream. `id` is the message's."""

    def __init__(self, id: str) -> None:
        self.complete = False
        """The message is over, and well."""
        self._id = id
        self._begun = False
        self._told_end = False
        self._index = -1
        self._open = ""
        """The kind of the block that is open; empty: none is."""
        self._theirs: int | None = None
        """The open block's index, as the engine counts."""
        self._input = InputDeltas()
        """Of the open block."""

    def feed(self, event: Event) -> Iterator[Event]:
        """The events that go to the client for one of the engine's.

        Raises:
            BrokenStream: nothing can be made of it.
        """
        kind = event["type"]
        if kind == "message_start":
            if self._begun:
                raise BrokenStream("a message begins twice")
            self._begun = True
            yield {**event, "message": {**event["message"], "id": self._id, "content": []}}
            return
        if not self._begun or self.complete:
            raise BrokenStream(f"{kind} is outside of the message")
        match kind:
            case "content_block_start":
                yield from self._start(event["content_block"], event.get("index"))
            case "content_block_delta":
                yield from self._delta(event["delta"], event.get("index"))
            case "content_block_stop":
                yield from self._stop()
            case "message_delta":
                yield from self._stop()
                if self._index < 0:
                    yield from self._start(_BEGINNINGS["text"], None)
                    yield from self._stop()
                self._told_end = True
                yield event
            case "message_stop":
                if not self._told_end:
                    raise BrokenStream("the message ends without a reason")
                self.complete = True
                yield {"type": "message_stop"}
            case "ping":
                yield event

    def _start(self, block: Event, theirs: int | None) -> Iterator[Event]:
        if self._told_end:
            raise BrokenStream("a block begins after the message's end was told")
        yield from self._stop()
        self._index += 1
        self._open, self._theirs, self._input = block["type"], theirs, InputDeltas()
        begun = {**_BEGINNINGS.get(self._open, {}), **block}
        yield {"type": "content_block_start", "index": self._index, "content_block": begun}

    def _delta(self, delta: Event, theirs: int | None) -> Iterator[Event]:
        kind = _KINDS[delta["type"]]
        if self._open != kind or (self._theirs is not None and theirs not in (None, self._theirs)):
            if kind == "tool_use" or delta["type"] == "signature_delta":
                raise BrokenStream(f"{delta['type']} has no block that it belongs to")
            yield from self._start(_BEGINNINGS[kind], theirs)
        if kind == "tool_use":
            delta = {**delta, "partial_json": self._input.told(delta["partial_json"])}
            if not delta["partial_json"]:
                return
        yield {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _stop(self) -> Iterator[Event]:
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": self._index}


class GatheredMessage:
    """The whole answer that a stream comes to, as Anthropic's clients put it together."""

    def __init__(self) -> None:
        self.message: Event = {}
        self._texts: list[str] = []

    def add(self, event: Event) -> None:
        """The stream's next event; the grammar holds."""
        match event["type"]:
            case "message_start":
                self.message = {**event["message"], "content": [], "usage": _told(event["message"]["usage"])}
            case "content_block_start":
                self.message["content"].append(dict(event["content_block"]))
                self._texts = []
            case "content_block_delta":
                self._delta(event["delta"])
            case "content_block_stop":
                self._stop(self.message["content"][-1])
            case "message_delta":
                self.message |= event["delta"]
                self.message["usage"] |= _told(event["usage"])

    def _delta(self, delta: Event) -> None:
        match delta["type"]:
            case "signature_delta":
                self.message["content"][-1]["signature"] = delta["signature"]
            case kind:
                self._texts.append(delta[_TEXTS[kind]])

    def _stop(self, block: Event) -> None:
        text = "".join(self._texts)
        if block["type"] == "tool_use":
            block["input"] = tool_input(text)
        else:
            block[block["type"]] += text


def _told(usage: Event) -> Event:
    return {name: count for name, count in usage.items() if count is not None}
