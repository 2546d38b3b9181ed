"""A pair answers chats as vLLM's own server does: tools, structured output, log probabilities, in both stream modes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.conftest import session
from tests.vllm_engine.engines import Pair, chat
from tests.vllm_engine.oracle import Oracle, comparable, joined, vllm_server

pytestmark = pytest.mark.vllm

SWITCH = {
    "type": "function",
    "function": {
        "name": "switch",
        "strict": True,
        "description": "Switches the lamp.",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "additionalProperties": False,
        },
    },
}
WAIT = {
    "type": "function",
    "function": {
        "name": "wait",
        "strict": True,
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
TOOLS = {"tools": [SWITCH, WAIT], "max_tokens": 60}
CALL = '<tool_call>\n{"name": "switch", "arguments": {"on": true}}\n</tool_call>'
PET = {"type": "object", "properties": {"kind": {"enum": ["cat", "dog"]}}, "required": ["kind"]}
CALLED = {"id": "call-1", "type": "function", "function": {"name": "switch", "arguments": '{"on": true}'}}
PARTS = [{"type": "text", "text": "hi"}, {"type": "text", "text": "you"}]
RESULT_TURNS: list[dict[str, Any]] = [
    {"role": "system", "content": "You switch lamps."},
    {"role": "user", "content": "Light, please."},
    {"role": "assistant", "content": None, "tool_calls": [CALLED]},
    {"role": "tool", "tool_call_id": "call-1", "content": "The lamp is on."},
]

CHATS: dict[str, dict[str, Any]] = {
    "auto, a call": {**TOOLS, "tool_choice": "auto", "structured_outputs": {"choice": [CALL]}},
    "auto, text": {**TOOLS, "tool_choice": "auto", "max_tokens": 20},
    "none": {**TOOLS, "tool_choice": "none", "max_tokens": 20},
    "required": {**TOOLS, "tool_choice": "required"},
    "named": {**TOOLS, "tool_choice": {"type": "function", "function": {"name": "switch"}}},
    "tool result": {**TOOLS, "messages": RESULT_TURNS, "max_tokens": 20},
    "json_object": {"response_format": {"type": "json_object"}, "max_tokens": 40},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "pet", "schema": PET}}},
    "logprobs": {"logprobs": True, "top_logprobs": 3, "ignore_eos": True},
    "penalties": {"frequency_penalty": 1.5, "presence_penalty": 0.5, "max_tokens": 20},
    "logit bias": {"logit_bias": {"40": 100}, "max_tokens": 4},
    "parts": {"messages": [{"role": "user", "content": PARTS}]},
    "stop": {"stop": ["e", "a"], "include_stop_str_in_output": True},
}


@session
async def oracle(pair: Pair) -> AsyncIterator[Oracle]:
    async with vllm_server(pair.decode) as server:
        yield server


def body(asked: dict[str, Any]) -> dict[str, Any]:
    return json.loads(chat(asked).body)


@pytest.mark.parametrize("asked", CHATS.values(), ids=CHATS)
async def test_an_answer_is_the_one_of_vllms_server(pair: Pair, oracle: Oracle, asked: dict[str, Any]) -> None:
    answer = await pair.ask({**asked, "cache_salt": "pair"}, chat)
    assert answer.reply.kv.outcome == KvReport.TRANSFERRED
    assert comparable(answer.reply.json) == await oracle.answer("/v1/chat/completions", body(asked))


@pytest.mark.parametrize("asked", CHATS.values(), ids=CHATS)
async def test_a_stream_is_the_one_of_vllms_server(pair: Pair, oracle: Oracle, asked: dict[str, Any]) -> None:
    asked = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    answer = await pair.ask({**asked, "cache_salt": "stream of a pair"}, chat)
    assert answer.reply.kv.outcome == KvReport.TRANSFERRED
    assert joined(answer.reply.events) == await oracle.stream("/v1/chat/completions", body(asked))


@pytest.mark.parametrize("choice", ["auto, a call", "required", "named"])
async def test_a_call_of_a_tool_is_a_call_in_the_answer(pair: Pair, choice: str) -> None:
    (answer,) = (await pair.ask(CHATS[choice], chat)).reply.json["choices"]
    called = answer["message"]["tool_calls"][0]["function"]
    assert called["name"] in ("switch", "wait")
    assert isinstance(json.loads(called["arguments"]), dict)
    assert answer["finish_reason"] in ("tool_calls", "stop")


async def test_a_result_of_a_tool_is_part_of_the_prompt(pair: Pair) -> None:
    other = [*RESULT_TURNS[:-1], {**RESULT_TURNS[-1], "content": "The lamp is broken."}]
    answers = [await pair.ask({**TOOLS, "messages": turns, "max_tokens": 20}, chat) for turns in (RESULT_TURNS, other)]
    assert answers[0].text != answers[1].text


async def test_a_json_object_is_json(pair: Pair) -> None:
    answer = await pair.ask({"response_format": {"type": "json_object"}, "max_tokens": 64}, chat)
    if answer.outcome.finish_reason == "stop":
        assert isinstance(json.loads(answer.text), dict)
    else:  # cut at max_tokens: a model of random weights may not come to an end
        assert answer.outcome.finish_reason == "length"
        assert answer.text.lstrip().startswith("{")


async def test_what_is_wrong_with_tools_is_said_in_vllms_words(pair: Pair, oracle: Oracle) -> None:
    from tandem_engine.errors import InvalidRequest

    for asked in (
        {"tools": [SWITCH], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_schema"}},
    ):
        status, text = await oracle.error("/v1/chat/completions", body(asked))
        with pytest.raises(InvalidRequest) as caught:
            await pair.prefill.prefill(chat(asked))
        assert status == 400
        assert caught.value.message.split("\n")[0][:40] in text
