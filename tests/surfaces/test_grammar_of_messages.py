"""Whatever blocks and deltas an engine says, in whatever order, the stream of Messages is one that clients can read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.message_stream import BrokenStream, MessageStream
from tandem_engine.response_stream import ResponseStream

from tests.surfaces.grammar import assert_message_grammar

START = {
    "type": "message_start",
    "message": {"id": "chatcmpl-1", "type": "message", "role": "assistant", "content": [], "usage": {}},
}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {}}
STOP = {"type": "message_stop"}


def block(kind: str, index: int) -> dict[str, Any]:
    content = {"type": kind, "id": "t", "name": "f", "input": {}} if kind == "tool_use" else {"type": kind, kind: ""}
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(kind: str, index: int) -> dict[str, Any]:
    content = {
        "text": {"type": "text_delta", "text": "é"},
        "thinking": {"type": "thinking_delta", "thinking": "天"},
        "tool_use": {"type": "input_json_delta", "partial_json": "{}"},
    }
    return {"type": "content_block_delta", "index": index, "delta": content[kind]}


def close(kind: str, index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def told(stream: MessageStream, *events: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for event in events for one in stream.feed(event)]


def mended(*events: dict[str, Any]) -> bytes:
    stream = MessageStream("msg_1")
    written = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in told(stream, START, *events)]
    assert stream.complete
    return "".join(written).encode()


@given(st.lists(st.tuples(st.sampled_from([block, delta, close]), st.sampled_from(["text", "thinking"]))))
def test_any_order_of_blocks_is_mended(said: list[tuple[Any, str]]) -> None:
    index = -1
    events = []
    for make, kind in said:
        index += make is block
        events.append(make(kind, index))
    raw = mended(*events, END, STOP)
    assert_message_grammar(raw)
    texts = sum(make is delta for make, _ in said)
    assert raw.count(b'"text_delta"') + raw.count(b'"thinking_delta"') == texts


def test_a_message_that_says_nothing_has_an_empty_text() -> None:
    raw = mended(END, STOP)
    assert_message_grammar(raw)
    assert b'"content_block": {"type": "text", "text": ""}' in raw


def test_blocks_are_numbered_anew_and_closed() -> None:
    raw = mended(block("text", 3), delta("text", 3), block("tool_use", 7), delta("tool_use", 7), END, STOP)
    assert_message_grammar(raw)


@pytest.mark.parametrize(
    ("pieces", "told"), [((' "Ro', 'm"'), ""), (("", "[", "1]"), ""), ((" ", "{", '"a": 1}'), ' {"a": 1}')]
)
def test_a_call_whose_arguments_are_no_object_has_no_input(pieces: tuple[str, ...], told: str) -> None:
    said = [{**delta("tool_use", 0), "delta": {"type": "input_json_delta", "partial_json": one}} for one in pieces]
    raw = mended(block("tool_use", 0), *said, END, STOP)
    assert_message_grammar(raw)
    events = [
        json.loads(line.removeprefix("data: ")) for line in raw.decode().splitlines() if line.startswith("data: ")
    ]
    assert "".join(event["delta"].get("partial_json", "") for event in events if "_delta" in event["type"]) == told


def test_the_id_is_ours_and_thinking_begins_with_a_signature() -> None:
    raw = mended(block("thinking", 0), END, STOP)
    assert b'"id": "msg_1"' in raw
    assert b'"signature": ""' in raw


@pytest.mark.parametrize(
    "events",
    [
        (STOP,),
        (START, STOP),
        (START, START),
        (START, delta("tool_use", 0)),
        (START, block("tool_use", 0), delta("tool_use", 1)),
        (START, END, block("text", 0)),
        (START, END, STOP, END),
    ],
    ids=str,
)
def test_what_can_not_be_made_up_breaks_the_stream(events: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(BrokenStream):
        told(MessageStream("msg_1"), *events)


def test_a_response_that_was_cut_ends_as_incomplete_and_says_nothing_internal() -> None:
    stream = ResponseStream("resp_1")
    first = stream.feed(
        {"type": "response.created", "sequence_number": -1, "response": {"id": "x", "status": "in_progress"}}
    )
    last = stream.feed(
        {"type": "response.completed", "response": {"status": "incomplete", "kv_transfer_params": {"tandem.lease": 1}}}
    )
    assert (first["sequence_number"], first["response"]["id"], first["response"]["store"]) == (0, "resp_1", False)
    assert (last["type"], last["sequence_number"]) == ("response.incomplete", 1)
    assert "kv_transfer_params" not in last["response"]
    assert stream.complete
