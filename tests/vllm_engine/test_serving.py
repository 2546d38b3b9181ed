"""Chat and completions behave as vLLM's server does, within the platform's limits, and fail in one way."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest, NotFound
from tandem_engine.vllm import VllmEngine
from tandem_proto.tandem.v1 import worker_pb2

from tests.vllm_engine.engines import Answer, Pair, ask, chat, completion, prompt

pytestmark = pytest.mark.vllm

TOOL = {
    "type": "function",
    "function": {
        "name": "switch",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "old": {"type": "boolean"}},
    "required": ["kind", "old"],
    "additionalProperties": False,
}


@pytest.fixture
def engine(pair: Pair) -> VllmEngine:
    return pair.decode


async def both(engine: VllmEngine, body: dict[str, Any], make: Callable[..., Call] = chat) -> tuple[Answer, Answer]:
    """The same request without and with a stream."""
    return await ask(engine, make(body)), await ask(engine, make({**body, "stream": True}))


def calls(answer: Answer) -> list[tuple[str, str]]:
    """Name and arguments of the tool calls of an answer."""
    if answer.reply.content_type == "application/json":
        made = answer.reply.json["choices"][0]["message"]["tool_calls"]
        return [(call["function"]["name"], call["function"]["arguments"]) for call in made]
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in answer.reply.events:
        for choice in event["choices"]:
            for call in choice["delta"].get("tool_calls") or []:
                names.setdefault(call["index"], call["function"].get("name") or "")
                part = call["function"].get("arguments") or ""
                arguments[call["index"]] = arguments.get(call["index"], "") + part
    return [(names[index], arguments[index]) for index in sorted(names)]


@pytest.mark.parametrize("make", [chat, completion])
async def test_a_stream_has_the_text_and_the_usage_of_the_one_answer(
    engine: VllmEngine, make: Callable[..., Call]
) -> None:
    body = {"prompt": "a quick brown", "max_tokens": 20} if make is completion else {"max_tokens": 20}
    answer = await ask(engine, make(body))
    stream = await ask(engine, make({**body, "stream": True, "stream_options": {"include_usage": True}}))
    assert stream.text == answer.text != ""
    assert stream.reply.events[-1]["usage"] == {
        key: answer.reply.json["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    usage = answer.reply.json["usage"]
    for outcome in (answer.outcome, stream.outcome):
        assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (
            usage["prompt_tokens"],
            usage["completion_tokens"],
        )
        assert outcome.finish_reason == answer.reply.json["choices"][0]["finish_reason"]


async def test_the_id_is_the_one_that_was_given(engine: VllmEngine) -> None:
    for given in ("chatcmpl-tandem-1", "something-else"):
        call = chat({})
        answer = await ask(engine, Call(given, call.api, call.body))
        stream = await ask(engine, Call(given, call.api, chat({"stream": True}).body))
        assert answer.reply.json["id"] == given
        assert {event["id"] for event in stream.reply.events} == {given}


async def test_an_answer_ends_before_a_stop_string(engine: VllmEngine) -> None:
    whole = (await ask(engine, completion({"prompt": "hello", "max_tokens": 30, "ignore_eos": True}))).text
    stop = whole[10:13]
    body = {"prompt": "hello", "max_tokens": 30, "ignore_eos": True, "stop": [stop]}
    for answer in await both(engine, body, completion):
        assert answer.text == whole[: whole.index(stop)]
        assert answer.outcome.finish_reason == "stop"


async def test_a_seed_repeats_an_answer(engine: VllmEngine) -> None:
    def drawn(seed: int) -> dict[str, Any]:
        return {"temperature": 1, "seed": seed, "max_tokens": 20, "ignore_eos": True}

    first, streamed = await both(engine, drawn(1))
    assert first.text == streamed.text
    assert (await ask(engine, chat(drawn(2)))).text != first.text


async def test_log_probabilities_come_for_each_token(engine: VllmEngine) -> None:
    answer, stream = await both(engine, {"logprobs": True, "top_logprobs": 2, "max_tokens": 5, "ignore_eos": True})
    content = answer.reply.json["choices"][0]["logprobs"]["content"]
    assert len(content) == 5
    assert all(len(token["top_logprobs"]) == 2 for token in content)
    events = [event["choices"][0] for event in stream.reply.events]
    streamed = [token for choice in events if choice.get("logprobs") for token in choice["logprobs"]["content"]]
    assert [token["logprob"] for token in streamed] == pytest.approx([token["logprob"] for token in content])


async def test_a_json_schema_is_kept(engine: VllmEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA, "strict": True}}
    for answer in await both(engine, {"response_format": form, "max_tokens": 60}):
        pet = json.loads(answer.text)
        assert pet["kind"] in ("cat", "dog")
        assert isinstance(pet["old"], bool)


async def test_a_named_tool_is_called(engine: VllmEngine) -> None:
    choice = {"type": "function", "function": {"name": "switch"}}
    answer, stream = await both(engine, {"tools": [TOOL], "tool_choice": choice, "max_tokens": 40})
    ((name, arguments),) = calls(answer)
    assert name == "switch"
    assert isinstance(json.loads(arguments)["on"], bool)
    ((streamed_name, streamed_arguments),) = calls(stream)
    assert (streamed_name, json.loads(streamed_arguments)) == (name, json.loads(arguments))


async def test_several_choices_are_told_apart(engine: VllmEngine) -> None:
    answer, stream = await both(engine, {"n": 2, "temperature": 1, "max_tokens": 8, "ignore_eos": True})
    assert [choice["index"] for choice in answer.reply.json["choices"]] == [0, 1]
    assert answer.outcome.usage.completion_tokens == 16
    assert {event["choices"][0]["index"] for event in stream.reply.events} == {0, 1}
    assert stream.outcome.usage.completion_tokens == 16


@pytest.mark.parametrize("asked", [{"max_tokens": 9000}, {"max_completion_tokens": 9000}, {"max_tokens": None}])
async def test_answers_are_at_most_as_long_as_the_platform_allows(engine: VllmEngine, asked: dict[str, Any]) -> None:
    answer = await ask(engine, chat({"max_tokens": None, "ignore_eos": True, **asked}))
    assert answer.outcome.usage.completion_tokens == 64
    assert answer.outcome.finish_reason == "length"


async def test_sampling_values_out_of_range_are_brought_into_it(engine: VllmEngine) -> None:
    async def text(**body: Any) -> str:
        return (await ask(engine, chat({"seed": 1, "max_tokens": 20, "ignore_eos": True, **body}))).text

    assert await text(temperature=3) == await text(temperature=2)
    assert await text(temperature=1, top_p=1.5) == await text(temperature=1, top_p=1)
    assert await text(temperature=1, top_p=0) == await text(temperature=0)
    assert await text(temperature=1, top_k=-1) == await text(temperature=1, top_k=0)


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (chat({"temperature": -0.1}), "temperature"),
        (chat({"top_k": -2}), "top_k"),
        (chat({"max_tokens": 0}), "max_tokens"),
        (chat({"messages": []}), "messages"),
        (chat({"messages": "hi"}), "messages"),
        (chat({"top_logprobs": 3}), "top_logprobs"),
        (chat({"temperature": "hot"}), "temperature"),
        (chat({"stream_options": {"include_usage": True}}), "stream_options"),
        (completion({"prompt": ""}), "prompt"),
        (completion({"prompt": {"a": 1}}), "prompt"),
    ],
)
async def test_what_is_wrong_in_a_request_is_named(engine: VllmEngine, call: Call, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await ask(engine, call)
    assert caught.value.param.split(".")[0] == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"temperature": NaN}', b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(engine: VllmEngine, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="invalid request body"):
        await ask(engine, Call("chatcmpl-x", worker_pb2.API_CHAT_COMPLETIONS, body))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_is_refused(engine: VllmEngine, stream: bool) -> None:
    with pytest.raises(InvalidRequest, match="2048"):
        await ask(engine, completion({"prompt": prompt(2100), "stream": stream}))


async def test_a_schema_that_is_no_schema_is_refused(engine: VllmEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    for stream in (False, True):
        with pytest.raises(InvalidRequest):
            await ask(engine, chat({"response_format": form, "stream": stream}))


async def test_an_unknown_model_is_not_found(engine: VllmEngine) -> None:
    with pytest.raises(NotFound, match="other"):
        await ask(engine, chat({"model": "other"}))
