"""What every surface makes of a reply, judged by the official clients and by the grammars of the streams."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.openai.chat_replies import ChatReplyEncoder
from tandem_api.openai.response_replies import ResponseEncoder
from tandem_api.replies import Block, Events, Finish, Reply, Text, Thinking, ToolCall, Usage, whole

from tests.api.sdks import BOTH, events_of

USAGE = Usage(30, 20, cached=10, cache_write=5, reasoning=4)
REPLIES = {
    "text": Reply((Text("Hello there."),), USAGE),
    "several tool calls": Reply(
        (Text("I ask."), ToolCall("look_up", '{"of":"ö","n":[1,2.5,null]}'), ToolCall("add", "{}")),
        USAGE,
        Finish.TOOL_CALLS,
    ),
    "a tool call alone": Reply((ToolCall("look_up", '{"of":"x"}'),), Usage(1, 2), Finish.TOOL_CALLS),
    "thinking and text mixed": Reply(
        (Thinking("First,", "c2ln"), Text("One."), Thinking("then,", "bW9y"), Text("Two.")), USAGE
    ),
    "empty text": Reply((Text(""),), Usage(1, 0)),
    "nothing": Reply((), Usage(1, 0)),
    "characters of several bytes": Reply((Text('Grüße, 世界 🙂\u2028\x00\\" data: x\n\ndata: [DONE]\n\n'),), USAGE),
    "cut": Reply((Text("Hello"),), USAGE, Finish.LENGTH),
    "stopped": Reply((Text("Hello"),), USAGE, Finish.STOP_SEQUENCE, stop_sequence="there"),
    "refused": Reply((Text("No."),), USAGE, Finish.CONTENT_FILTER),
}


def letters(reply: Reply) -> list[list[str]]:
    """Every block, one character a piece."""
    return [list(block.text) or [""] for block in reply.blocks]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ARGUMENTS = st.dictionaries(
    ANY_TEXT, st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | ANY_TEXT, st.lists), max_size=3
).map(lambda value: json.dumps(value, ensure_ascii=False))
BLOCKS: st.SearchStrategy[Block] = st.one_of(
    ANY_TEXT.map(Text),
    st.builds(Thinking, ANY_TEXT, st.just("c2lnbmVk")),
    st.builds(ToolCall, st.from_regex("[a-z_]{1,9}", fullmatch=True), ARGUMENTS),
)


@st.composite
def cut_replies(draw: st.DrawFn) -> tuple[Reply, list[list[str]]]:
    """A reply, and its blocks cut anywhere."""
    blocks = tuple(draw(st.lists(BLOCKS, max_size=5)))
    finish = draw(st.sampled_from([Finish.STOP, Finish.LENGTH, Finish.TOOL_CALLS]))
    pieces = []
    for block in blocks:
        places = draw(st.lists(st.integers(0, len(block.text)), max_size=4).map(sorted))
        pieces.append([block.text[start:end] for start, end in pairwise([0, *places, len(block.text)])])
    count = st.integers(0, 1000)
    usage = Usage(draw(count) + 2000, draw(count), draw(count), draw(count), draw(count))
    return Reply(blocks, usage, finish), pieces


def written(reply: Reply, surface: str, pieces: list[list[str]] | None = None) -> Events:
    encoder = {
        "chat": ChatReplyEncoder("chatcmpl-virtual-k", "m", 1),
        "responses": ResponseEncoder("resp-virtual-k", "m", 1, {}),
        "messages": MessagesEncoder("msg_virtual_k", "m"),
    }[surface]
    return encoder.events(reply, pieces or whole(reply))


def stream(reply: Reply, surface: str, pieces: list[list[str]] | None = None) -> list[tuple[str, Any]]:
    events = written(reply, surface, pieces)
    return events_of(b"".join((events.opening, *events.chunks, events.closing)))


@pytest.mark.parametrize("surface", BOTH)
@pytest.mark.parametrize("kind", REPLIES)
def test_what_a_client_gathers_from_a_stream_is_the_whole_answer(surface: str, kind: str) -> None:
    reply = REPLIES[kind]
    gathered_whole, gathered = BOTH[surface](reply, letters(reply))
    assert gathered == gathered_whole


@pytest.mark.parametrize("surface", BOTH)
@settings(max_examples=25, deadline=None)
@given(cut=cut_replies())
def test_any_cut_of_any_reply_is_gathered_whole(surface: str, cut: tuple[Reply, list[list[str]]]) -> None:
    gathered_whole, gathered = BOTH[surface](*cut)
    assert gathered == gathered_whole


@settings(max_examples=25, deadline=None)
@given(cut=cut_replies())
def test_all_surfaces_say_the_same(cut: tuple[Reply, list[list[str]]]) -> None:
    chat, responses, messages = (BOTH[surface](*cut)[1] for surface in ("chat", "responses", "messages"))
    message = chat["choices"][0]["message"]
    of_chat = (
        message.get("content", ""),
        message.get("reasoning", ""),
        [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ],
    )
    of_responses = (
        "".join(item["content"][0]["text"] for item in responses["output"] if item["type"] == "message"),
        "".join(item["content"][0]["text"] for item in responses["output"] if item["type"] == "reasoning"),
        [
            (item["name"], json.loads(item["arguments"]))
            for item in responses["output"]
            if item["type"] == "function_call"
        ],
    )
    of_messages = (
        "".join(block["text"] for block in messages["content"] if block["type"] == "text"),
        "".join(block["thinking"] for block in messages["content"] if block["type"] == "thinking"),
        [(block["name"], block["input"]) for block in messages["content"] if block["type"] == "tool_use"],
    )
    assert of_chat == of_responses == of_messages
    counted = messages["usage"]
    prompt = sum(
        counted.get(part, 0) for part in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    assert chat["usage"]["prompt_tokens"] == responses["usage"]["input_tokens"] == prompt
    assert chat["usage"]["completion_tokens"] == responses["usage"]["output_tokens"] == counted["output_tokens"]


@given(cut_replies())
def test_the_events_of_messages_follow_their_grammar(cut: tuple[Reply, list[list[str]]]) -> None:
    events = stream(cut[0], "messages", cut[1])
    letters = {
        "message_start": "s",
        "content_block_start": "(",
        "content_block_delta": "d",
        "content_block_stop": ")",
        "message_delta": "m",
        "message_stop": "e",
    }
    assert all(name == data["type"] for name, data in events)
    assert re.fullmatch(r"s(\(d*\))*me", "".join(letters[name] for name, _ in events))
    starts = [data["index"] for name, data in events if name == "content_block_start"]
    assert starts == list(range(len(cut[0].blocks)))
    open_block = -1
    for name, data in events:
        if name == "content_block_start":
            open_block = data["index"]
        assert data.get("index", open_block) == open_block


@given(cut_replies())
def test_a_stream_of_chat_has_one_finish_reason_one_id_and_its_end(cut: tuple[Reply, list[list[str]]]) -> None:
    events = [data for _, data in stream(cut[0], "chat", cut[1])]
    assert events[-1] == "[DONE]"
    chunks = events[:-1]
    assert {(chunk["id"], chunk["created"], chunk["choices"][0]["index"]) for chunk in chunks} == {
        ("chatcmpl-virtual-k", 1, 0)
    }
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(reasons) - 1) + [cut[0].finish.value]


@given(cut_replies())
def test_the_deltas_of_responses_join_to_what_their_items_end_as(cut: tuple[Reply, list[list[str]]]) -> None:
    events = stream(cut[0], "responses", cut[1])
    assert events[-1] == ("", "[DONE]")
    names = [name for name, _ in events]
    assert names[:2] == ["response.created", "response.in_progress"]
    assert [data["sequence_number"] for _, data in events[:-1]] == list(range(len(events) - 1))
    gathered = ["" for _ in cut[0].blocks]
    for name, data in events[:-1]:
        if name.endswith(".delta"):
            gathered[data["output_index"]] += data["delta"]
    done = [data["item"] for name, data in events[:-1] if name == "response.output_item.done"]
    assert done == events[-2][1]["response"]["output"]
    assert gathered == [block.text for block in cut[0].blocks]


def test_text_and_a_tool_call_make_exactly_these_events() -> None:
    reply = Reply((Text("Hi"), ToolCall("f", '{"a":1}')), Usage(3, 21), Finish.TOOL_CALLS)
    message = {"id": "msg_virtual_k", "type": "message", "role": "assistant", "model": "m", "content": []}
    began = {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 0}}
    call = {"type": "tool_use", "id": "toolu_k_1", "name": "f", "input": {}}
    assert stream(reply, "messages") == [
        (data["type"], data)
        for data in (
            {"type": "message_start", "message": message | began},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": call},
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'},
            },
            {"type": "content_block_stop", "index": 1},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                "usage": {"input_tokens": 3, "output_tokens": 21},
            },
            {"type": "message_stop"},
        )
    ]


def test_a_reply_without_text_has_null_content_on_chat() -> None:
    body = json.loads(ChatReplyEncoder("chatcmpl-k", "m", 1).body(REPLIES["a tool call alone"]))
    assert body["choices"][0]["message"]["content"] is None
    assert stream(REPLIES["a tool call alone"], "chat")[0][1]["choices"][0]["delta"]["content"] is None


def test_usage_is_streamed_on_chat_where_it_is_asked_for_or_declared() -> None:
    def counts(*, wanted: bool, told: bool) -> list[Any]:
        reply = Reply((Text("a"),), USAGE, tells_usage=told)
        events = ChatReplyEncoder("chatcmpl-k", "m", 1, include_usage=wanted).events(reply, [["a"]])
        frames = events_of(b"".join((events.opening, *events.chunks, events.closing)))
        return [data["usage"] for _, data in frames[:-1] if data.get("usage")]

    assert counts(wanted=False, told=False) == []
    told = counts(wanted=False, told=True)
    assert told == counts(wanted=True, told=False)
    assert told == [
        {
            "prompt_tokens": 30,
            "completion_tokens": 20,
            "total_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 4},
        }
    ]
