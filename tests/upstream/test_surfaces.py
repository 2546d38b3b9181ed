"""Messages, their counting and Responses of servers that know chat alone, as the official clients read them."""

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.surfaces.grammar import assert_message_grammar, assert_response_grammar
from tests.surfaces.transport import Transport

from .conftest import Handler, Server, answering, chunk, endpoint, engine_of, streaming

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: Any = {"name": "look", "description": "Looks.", "input_schema": SCHEMA}
ASK: dict[str, Any] = {"model": "ours", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
RESPOND: dict[str, Any] = {"model": "ours", "max_output_tokens": 50, "input": "Hi"}
TEXT = "Grüße, 天🌌!"
PIXEL = "data:image/png;base64,aGk="


def called(name: str, arguments: Any, index: int = 0) -> dict[str, Any]:
    return {"index": index, "id": f"c{index}", "type": "function", "function": {"name": name, "arguments": arguments}}


def more(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


CALLS = [called("look", '{"city": "Zürich"}'), called("look", '{"city": "Rom"}', 1)]
SAID: dict[str, tuple[dict[str, Any], str, list[dict[str, Any]]]] = {
    "text": ({"content": TEXT}, "stop", [{"content": "Grüße, "}, {"content": "天🌌!"}]),
    "nothing": ({"content": None}, "stop", []),
    "cut": ({"content": "Gr"}, "length", [{"content": "Gr"}]),
    "thought": (
        {"reasoning_content": "é, so", "content": TEXT},
        "stop",
        [{"reasoning_content": "é"}, {"reasoning_content": ", so"}, {"content": TEXT}],
    ),
    "calls": (
        {"content": "", "tool_calls": CALLS},
        "tool_calls",
        [
            {"tool_calls": [called("look", "")]},
            more('{"city": '),
            more('"Zürich"}'),
            {"tool_calls": [called("look", '{"city": "Rom"}', 1)]},
        ],
    ),
    "text and a call that is named": (
        {"reasoning": "hm", "content": "So.", "tool_calls": CALLS[:1]},
        "stop",
        [{"reasoning": "hm"}, {"content": "So."}, {"tool_calls": CALLS[:1]}],
    ),
    "arguments that are objects": (
        {"content": None, "tool_calls": [called("look", {"city": "Rom"})]},
        "tool_calls",
        [{"tool_calls": [called("look", {"city": "Rom"})]}],
    ),
    "a call that is cut": (
        {"content": None, "tool_calls": [called("look", '{"city": "Ro')]},
        "length",
        [{"tool_calls": [called("look", '{"city": "')]}, more("Ro")],
    ),
    "arguments that are no object": (
        {"content": None, "tool_calls": [called("look", ' "Rom"')]},
        "tool_calls",
        [{"tool_calls": [called("look", " ")]}, more('"'), more('Rom"')],
    ),
    "calls without index": (
        {"content": None, "tool_calls": [{"function": {"name": "look", "arguments": "{}"}}] * 2},
        "tool_calls",
        [{"tool_calls": [{"function": {"name": "look", "arguments": "{}"}}]}] * 2,
    ),
}


def saying(said: tuple[dict[str, Any], str, list[dict[str, Any]]]) -> list[Handler]:
    """A whole answer, and a stream of the same."""
    message, finish, deltas = said
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    events = [chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish), chunk(usage=USAGE)]
    return [answering(200, {"choices": [choice], "usage": USAGE}), streaming(*events, b"[DONE]")]


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_messages_come_alike_in_both_modes(server: Server, said: Any) -> None:
    server.handlers = saying(said)
    async with engine_of(endpoint(server)) as engine:
        client = (transport := Transport(engine.generate)).claude
        whole = await client.messages.create(**ASK, tools=[TOOL])
        async with client.messages.stream(**ASK, tools=[TOOL]) as stream:
            streamed = await stream.get_final_message()
    assert_message_grammar(b"".join(transport.replies[1].chunks))
    bare = [
        [{key: value for key, value in block.to_dict().items() if key != "id"} for block in message.content]
        for message in (whole, streamed)
    ]
    assert bare[0] == bare[1]
    assert bare[0]
    assert (whole.stop_reason, whole.usage) == (streamed.stop_reason, streamed.usage)
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens, whole.usage.output_tokens) == (5, 4, 7)
    assert whole.model == "ours"
    assert whole.id.startswith("msg_")
    assert (server.paths, server.bodies[0]["model"]) == (["/v1/chat/completions"] * 2, "theirs")


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_responses_come_alike_in_both_modes(server: Server, said: Any) -> None:
    server.handlers = saying(said)
    async with engine_of(endpoint(server)) as engine:
        client = (transport := Transport(engine.generate)).gpt
        whole = await client.responses.create(**RESPOND)
        streamed = [event async for event in await client.responses.create(**RESPOND, stream=True)][-1].response
    assert_response_grammar(b"".join(transport.replies[1].chunks))
    ids = {"id", "call_id"}
    bare = [[{k: v for k, v in i.to_dict().items() if k not in ids} for i in r.output] for r in (whole, streamed)]
    assert bare[0] == bare[1]
    assert bare[0]
    assert (whole.status, whole.usage) == (streamed.status, streamed.usage)
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.input_tokens_details.cached_tokens) == (9, 4)
    assert whole.store is False


async def test_what_is_said_is_told_in_blocks(server: Server) -> None:
    server.handlers = saying(SAID["text and a call that is named"])
    async with engine_of(endpoint(server)) as engine:
        message = await Transport(engine.generate).claude.messages.create(**ASK, tools=[TOOL])
    thought, text, call = message.content
    assert (thought.type, text.type, call.type) == ("thinking", "text", "tool_use")
    assert (thought.thinking, text.text, call.name, call.input) == ("hm", "So.", "look", {"city": "Zürich"})
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize("arguments", ["", '{"a"'])
async def test_the_stop_sequence_that_ended_an_answer_is_told(server: Server, arguments: str) -> None:
    message: dict[str, Any] = {"content": "Hi"}
    if arguments:
        message["tool_calls"] = [called("look", arguments)]  # a call that it has cut must not be run
    choice = {"message": message, "finish_reason": "stop", "stop_reason": "END"}
    server.handlers = [answering(200, {"choices": [choice]})]
    async with engine_of(endpoint(server)) as engine:
        found = await Transport(engine.generate).claude.messages.create(**ASK, stop_sequences=["END"])
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "END")
    assert server.bodies[0]["stop"] == ["END"]


async def test_a_conversation_is_asked_for_in_chats_words(server: Server) -> None:
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    turns: Any = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"city": "Rom"}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "See."}, image]},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    asked = {**ASK, "messages": turns, "system": "Be brief.", "tools": [TOOL], "max_tokens": 9000}
    async with engine_of(endpoint(server)) as engine:
        await Transport(engine.generate).claude.messages.create(
            **asked,
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            thinking={"type": "disabled"},
            extra_body={"temperature": 0.5, "top_k": 3},
        )
    (body,) = server.bodies
    picture = {"type": "image_url", "image_url": {"url": PIXEL}}
    call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Rom"}'}}
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "See."},
        {"role": "user", "content": [picture, {"type": "text", "text": "And?"}]},
    ]
    assert body["tools"][0]["function"] == {"name": "look", "description": "Looks.", "parameters": SCHEMA}
    assert (body["tool_choice"], body["parallel_tool_calls"], body["reasoning_effort"]) == ("required", False, "none")
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (100, 0.5, 3)


async def test_calls_made_at_one_go_are_one_message(server: Server) -> None:
    items: Any = [
        {"role": "user", "content": "Light."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": "Gladly."},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": "2"},
    ]
    async with engine_of(endpoint(server)) as engine:
        await Transport(engine.generate).gpt.responses.create(
            model="ours",
            input=items,
            instructions="Be brief.",
            reasoning={"effort": "low"},
            text={"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}},
        )
    (body,) = server.bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in body["messages"][2]["tool_calls"]] == ["c1", "c2"]
    assert body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"] == {"name": "a", "schema": SCHEMA, "strict": True}


async def test_tokens_are_counted_by_a_server_that_can(server: Server) -> None:
    server.handlers = [answering(200, {"input_tokens": 12})]
    async with engine_of(endpoint(server)) as engine:
        counted = await Transport(engine.generate).claude.messages.count_tokens(model="ours", messages=ASK["messages"])
    assert counted.input_tokens == 12
    assert (server.paths, server.bodies[0]["model"]) == (["/v1/messages/count_tokens"], "theirs")


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_where_no_server_counts_tokens_that_is_said_at_once(server: Server, status: int) -> None:
    server.handlers = [answering(status, {"error": {"message": "no such path"}})]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(anthropic.BadRequestError, match="can't count tokens"):
            await Transport(engine.generate).claude.messages.count_tokens(model="ours", messages=ASK["messages"])
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "document"),
        ({"temperature": -1}, "temperature"),
        ({"model": "other"}, "other"),
    ],
    ids=str,
)
async def test_what_chat_can_not_say_is_refused_here(server: Server, wrong: dict[str, Any], says: str) -> None:
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(anthropic.APIStatusError, match=says) as refused:
            await Transport(engine.generate).claude.messages.create(**ASK, extra_body=wrong)
    assert refused.value.status_code in (400, 404)
    assert not server.bodies


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"previous_response_id": "resp_1"}, "nothing is stored"), ({"tools": [{"type": "web_search"}]}, "web_search")],
    ids=str,
)
async def test_responses_that_need_more_than_chat_are_refused_here(
    server: Server, wrong: dict[str, Any], says: str
) -> None:
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(openai.BadRequestError, match=says):
            await Transport(engine.generate).gpt.responses.create(**RESPOND, extra_body=wrong)
    assert not server.bodies


@pytest.mark.parametrize(
    "events",
    [
        (chunk({"content": 3}),),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),),
        (chunk({"tool_calls": [{"index": 0}]}),),
        (chunk({"content": "Hi"}), b"[DONE]"),
    ],
    ids=["no text", "a call that never began", "no function", "no reason to end"],
)
async def test_a_stream_that_makes_no_message_fails(server: Server, events: tuple[Any, ...]) -> None:
    server.handlers = [streaming(*events)]
    async with engine_of(endpoint(server)) as engine:
        with pytest.raises(anthropic.APIStatusError):
            await Transport(engine.generate).claude.messages.create(**ASK, stream=True)


async def test_an_answer_with_anything_is_read_or_refused(server: Server) -> None:
    for message in ({"content": ["Hi"]}, {"tool_calls": "x"}, {"tool_calls": [{}]}, {"content": "Hi"}):
        server.handlers = [answering(200, {"choices": [{"message": message, "finish_reason": None}]})]
        async with engine_of(endpoint(server)) as engine:
            with pytest.raises(anthropic.InternalServerError) as failed:
                await Transport(engine.generate).claude.messages.create(**ASK)
        assert "can't be read" in json.dumps(failed.value.body)
