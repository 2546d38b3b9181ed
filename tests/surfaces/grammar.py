"""What streams may look like, and what they come to, of raw bytes."""

import json
import re
from typing import Any, Final

_MESSAGE: Final = re.compile(r"message_start (block_start (block_delta )*block_stop )*message_delta message_stop ")


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The data of all events; each is named as its data says."""
    *blocks, rest = raw.decode().split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        if block == "data: [DONE]":
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def assert_message_grammar(raw: bytes) -> None:
    """Requirements 16.2: the order of names, and indices 0, 1, 2 and so on."""
    events = events_of(raw)
    names = "".join(event["type"].removeprefix("content_") + " " for event in events)
    assert _MESSAGE.fullmatch(names), names
    index = -1
    for event in events:
        if event["type"] == "content_block_start":
            index += 1
        if "index" in event:
            assert event["index"] == index


def assert_response_grammar(raw: bytes) -> None:
    """Events are numbered; items open in turn, and end before the next; the end is the response's own."""
    assert raw.endswith(b"\n\ndata: [DONE]\n\n")
    events = events_of(raw)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    names = [event["type"] for event in events]
    assert names[:2] == ["response.created", "response.in_progress"]
    assert names[-1] == f"response.{events[-1]['response']['status']}"
    ended = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert ended == events[-1]["response"]["output"]
    within: int | None = None
    for event in events[2:-1]:
        if event["type"] == "response.output_item.added":
            assert within is None
            within = event["output_index"]
        assert event["output_index"] == within
        if event["type"] == "response.output_item.done":
            within = None
