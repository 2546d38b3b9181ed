"""Whatever a server answers to a chat completion, it is read, alike in both modes, or refused."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.blocks import MessageBlocks, ResponseBlocks
from tandem_api.from_chat import ChatReading, ChatStream
from tandem_api.openai.response_replies import ResponseEncoder
from tandem_engine.engine import Call
from tandem_engine.errors import CallError
from tandem_engine.message_stream import GatheredMessage
from tandem_engine.upstream.answers import Answering
from tandem_engine.upstream.requests import read
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.surfaces.grammar import assert_message_grammar, assert_response_grammar, events_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ("role", "content", "reasoning", "reasoning_content", "tool_calls", "function_call")
CALL = st.fixed_dictionaries({}, optional={"index": JSON, "id": JSON, "function": JSON, "type": JSON})
SAID = st.fixed_dictionaries({}, optional={**dict.fromkeys(MEMBERS, JSON), "tool_calls": JSON | st.lists(CALL)})
CHOICE = st.fixed_dictionaries(
    {}, optional={"delta": JSON | SAID, "message": JSON | SAID, "finish_reason": JSON, "stop_reason": JSON}
)
ANSWER = st.fixed_dictionaries({}, optional={"choices": JSON | st.lists(CHOICE, max_size=2), "usage": JSON})


def answering(api: "pb.Api.ValueType", stream: bool) -> Answering:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "stream": stream}
    return Answering(read(Call("x_1", api, json.dumps(body).encode()), "m", 100), "m", "x_1", 1)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([pb.API_CHAT_COMPLETIONS, pb.API_MESSAGES, pb.API_RESPONSES]), JSON | ANSWER)
def test_any_whole_answer_is_read_or_refused(api: "pb.Api.ValueType", answer: Any) -> None:
    try:
        body = json.loads(answering(api, False).whole(json.dumps(answer).encode()))
    except CallError:
        return
    assert body["id"] == "x_1"


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([pb.API_CHAT_COMPLETIONS, pb.API_MESSAGES, pb.API_RESPONSES]),
    st.lists(JSON | ANSWER, max_size=4),
    st.integers(1, 40),
)
def test_any_stream_is_read_or_refused_however_it_is_cut(api: "pb.Api.ValueType", chunks: list[Any], size: int) -> None:
    raw = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    reading = answering(api, True)
    try:
        told = b"".join(event for at in range(0, len(raw), size) for event in reading.events(raw[at : at + size]))
    except CallError:
        return
    assert reading.over
    if api == pb.API_MESSAGES:
        assert_message_grammar(told)


PIECES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4)
CONVERSATION = st.tuples(PIECES | st.just([]), PIECES | st.just([]), st.lists(PIECES, max_size=3))


@settings(deadline=None)
@given(CONVERSATION, st.sampled_from(["stop", "length", "tool_calls"]))
def test_a_stream_comes_to_the_whole_answer(said: tuple[list[str], list[str], list[list[str]]], finish: str) -> None:
    thoughts, texts, calls = said
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning": text} for text in thoughts] + [{"content": text} for text in texts]
    for index, arguments in enumerate(calls):
        deltas.append({"tool_calls": [{"index": index, "function": {"name": "f", "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": text}}]} for text in arguments]
    message: dict[str, Any] = {"reasoning": "".join(thoughts), "content": "".join(texts)}
    message["tool_calls"] = [{"function": {"name": "f", "arguments": "".join(each)}} for each in calls]
    whole = ChatReading()
    list(whole.read({"choices": [{"message": message, "finish_reason": finish}]}))

    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    encoder = MessagesEncoder("msg_1", "m")
    stream = ChatStream(MessageBlocks(encoder))
    raw = b"".join(map(stream.chunk, chunks)) + stream.end()
    assert_message_grammar(raw)
    gathered = GatheredMessage()
    for event in events_of(raw):
        gathered.add(event)
    assert gathered.message == json.loads(encoder.body(whole.reply()))

    responses = ResponseEncoder("resp_1", "m", 1, {})
    stream = ChatStream(ResponseBlocks(responses))
    raw = b"".join(map(stream.chunk, chunks)) + stream.end()
    assert_response_grammar(raw)
    assert events_of(raw)[-1]["response"] == json.loads(responses.body(whole.reply()))


def test_half_a_character_breaks_no_answer() -> None:
    chunk = b'data: {"choices": [{"delta": {"content": "\\ud83d"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    for api in (pb.API_CHAT_COMPLETIONS, pb.API_MESSAGES, pb.API_RESPONSES):
        assert b"".join(answering(api, True).events(chunk)).decode()
