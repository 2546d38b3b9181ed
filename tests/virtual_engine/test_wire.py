"""Answers are OpenAI's to the letter: read with the official package's own types, and clear 400s for bad input."""

import asyncio
import json

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tandem_engine.engine import Outcome
from tandem_engine.errors import InvalidRequest, NotFound
from tandem_engine.virtual import VirtualEngine

from tests.virtual_engine.conftest import TIMEOUT, RecordedReply, StartEngine, call, chat, words

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
async def engine(start: StartEngine) -> VirtualEngine:
    return await start(max_tokens=100)


async def ask(engine: VirtualEngine, body: dict, api: str = "chat") -> tuple[RecordedReply, Outcome]:
    reply = RecordedReply()
    return reply, await asyncio.wait_for(engine.generate(call(body, api=api), reply), TIMEOUT)


def chunks(reply: RecordedReply) -> list[ChatCompletionChunk]:
    return [ChatCompletionChunk.model_validate(event, strict=True) for event in reply.events]


async def test_a_chat_completion_is_whole(engine: VirtualEngine) -> None:
    reply, outcome = await ask(engine, chat())
    answer = ChatCompletion.model_validate_json(reply.bytes, strict=True)
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert (answer.id, answer.object, answer.model, answer.created) == (
        "chatcmpl-1",
        "chat.completion",
        "m",
        1700000100,
    )
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == outcome.usage.prompt_tokens
    assert answer.usage.completion_tokens == outcome.usage.completion_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_says_the_role_first_and_why_it_ends_last(engine: VirtualEngine) -> None:
    reply, _ = await ask(engine, chat(stream=True))
    assert reply.content_type == "text/event-stream; charset=utf-8"
    said = chunks(reply)
    assert said[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in said[1:])
    reasons = [chunk.choices[0].finish_reason for chunk in said]
    assert reasons == [None] * (len(said) - 1) + ["stop"]
    assert {chunk.id for chunk in said} == {"chatcmpl-1"}
    assert all("usage" not in event for event in reply.events)


@pytest.mark.parametrize("extra", [{}, {"stop": ["ver"]}, {"logprobs": True, "top_logprobs": 2}, {"max_tokens": 3}])
async def test_a_stream_adds_up_to_the_whole_answer(engine: VirtualEngine, extra: dict) -> None:
    whole, _ = await ask(engine, chat(**extra))
    stream, _ = await ask(engine, chat(stream=True, **extra))
    assert stream.text == whole.text
    assert stream.events[-1]["choices"][0]["finish_reason"] == whole.json["choices"][0]["finish_reason"]


async def test_usage_comes_in_a_last_chunk_of_its_own_where_asked_for(engine: VirtualEngine) -> None:
    reply, _ = await ask(engine, chat(stream=True, stream_options={"include_usage": True}))
    *before, last = reply.events
    assert all(event["usage"] is None for event in before)
    assert last["choices"] == []
    whole, _ = await ask(engine, chat())
    assert last["usage"] == whole.json["usage"] | {"prompt_tokens_details": last["usage"]["prompt_tokens_details"]}


async def test_cached_tokens_are_those_of_the_engines_own_cache(engine: VirtualEngine) -> None:
    body = {"model": "m", "prompt": words(50)}
    first, _ = await ask(engine, body, "completion")
    second, outcome = await ask(engine, body, "completion")
    assert first.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 48
    assert (outcome.usage.cached_tokens, outcome.usage.computed_tokens) == (48, 2)
    assert first.text == second.text


async def test_another_salt_shares_no_cache(engine: VirtualEngine) -> None:
    await ask(engine, {"model": "m", "prompt": words(50)}, "completion")
    salted, _ = await ask(engine, {"model": "m", "prompt": words(50), "cache_salt": "s"}, "completion")
    assert salted.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(("asked", "generated"), [(1, 1), (5, 5), (100, 100), (9000, 100)])
async def test_max_tokens_ends_an_answer_and_is_clamped(engine: VirtualEngine, asked: int, generated: int) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        reply, outcome = await ask(engine, chat(ignore_eos=True, **{field: asked}))
        assert reply.json["choices"][0]["finish_reason"] == outcome.finish_reason == "length"
        assert outcome.usage.completion_tokens == generated


async def test_a_stop_string_ends_an_answer_and_is_not_in_it(engine: VirtualEngine) -> None:
    full = (await ask(engine, chat(ignore_eos=True, max_tokens=30)))[0].text
    stop = full.split()[7] + " " + full.split()[8][:2]
    reply, outcome = await ask(engine, chat(ignore_eos=True, max_tokens=30, stop=stop))
    assert reply.text == full[: full.index(stop)]
    assert outcome.finish_reason == "stop"


async def test_the_same_seed_says_the_same_and_another_something_else(engine: VirtualEngine) -> None:
    texts = [(await ask(engine, chat(seed=seed, max_tokens=9, ignore_eos=True)))[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


async def test_at_temperature_0_the_requests_seed_does_not_matter(engine: VirtualEngine) -> None:
    texts = {(await ask(engine, chat(seed=seed, temperature=0)))[0].text for seed in (1, 2)}
    assert len(texts) == 1


async def test_several_choices_are_several_answers(engine: VirtualEngine) -> None:
    whole, outcome = await ask(engine, chat(n=3, max_tokens=4, ignore_eos=True))
    answer = ChatCompletion.model_validate_json(whole.bytes, strict=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert outcome.usage.completion_tokens == 12
    stream, _ = await ask(engine, chat(n=3, max_tokens=4, ignore_eos=True, stream=True))
    texts = ["", "", ""]
    for chunk in chunks(stream):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


async def test_text_parts_are_joined_and_equal_a_plain_string(engine: VirtualEngine) -> None:
    parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "of rivers."}]
    assert (await ask(engine, chat(parts)))[0].text == (await ask(engine, chat()))[0].text


async def test_an_image_is_part_of_the_prompt(engine: VirtualEngine) -> None:
    texts = []
    for url in ("data:image/png;base64,AA", "data:image/png;base64,AB"):
        body = chat([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}])
        texts.append((await ask(engine, body))[0].text)
    assert texts[0] != texts[1]


async def test_logprobs_are_told_for_every_token(engine: VirtualEngine) -> None:
    reply, outcome = await ask(engine, chat(logprobs=True, top_logprobs=3))
    told = ChatCompletion.model_validate_json(reply.bytes, strict=True).choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert len(told.content) == outcome.usage.completion_tokens
    assert "".join(token.token for token in told.content) == reply.text
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in told.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_that_must_be_called_is_called_with_fitting_arguments(
    engine: VirtualEngine, choice: object, stream: bool
) -> None:
    reply, _ = await ask(engine, chat(tools=[TOOL], tool_choice=choice, stream=stream))
    if stream:
        said = [chunk.choices[0] for chunk in chunks(reply)]
        calls = [piece for part in said for piece in part.delta.tool_calls or ()]
        name = calls[0].function.name if calls[0].function else None
        arguments = "".join(piece.function.arguments or "" for piece in calls if piece.function)
        assert (said[-1].finish_reason, calls[0].type, bool(calls[0].id)) == ("tool_calls", "function", True)
    else:
        answer = ChatCompletion.model_validate_json(reply.bytes, strict=True).choices[0]
        assert answer.message.tool_calls is not None
        function = answer.message.tool_calls[0].function
        name, arguments = function.name, function.arguments
        assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
    made = json.loads(arguments)
    assert name == "weather"
    assert isinstance(made["city"], str)
    assert 1 <= made["days"] <= 5


async def test_a_json_schema_is_fitted(engine: VirtualEngine) -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {"enum": ["x", "y"]}}}}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}
    reply, _ = await ask(engine, chat(response_format=form))
    assert set(json.loads(reply.text)["tags"]) <= {"x", "y"}


async def test_a_tool_conversation_goes_on(engine: VirtualEngine) -> None:
    made = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    rain = [*messages[:2], messages[2] | {"content": "rain"}]
    texts = {(await ask(engine, chat(tools=[TOOL]) | {"messages": said}))[0].text for said in (messages, rain)}
    assert len(texts) == 2


async def test_a_text_completion_is_whole(engine: VirtualEngine) -> None:
    reply, _ = await ask(engine, {"model": "m", "prompt": "Once upon"}, "completion")
    answer = Completion.model_validate_json(reply.bytes, strict=True)
    assert (answer.id, answer.object) == ("cmpl-1", "text_completion")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].text


async def test_a_text_completions_stream_adds_up(engine: VirtualEngine) -> None:
    body = {"model": "m", "prompt": ["Once upon", "a time"], "echo": True, "logprobs": 1}
    whole = Completion.model_validate_json((await ask(engine, body, "completion"))[0].bytes, strict=True)
    stream, _ = await ask(engine, body | {"stream": True}, "completion")
    texts = ["", ""]
    reasons: list[str | None] = [None, None]
    for event in stream.events:
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
            reasons[choice["index"]] = choice["finish_reason"] or reasons[choice["index"]]
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert texts[0].startswith("Once upon")
    assert texts[1].startswith("a time")


async def test_token_ids_are_a_prompt(engine: VirtualEngine) -> None:
    _, outcome = await ask(engine, {"model": "m", "prompt": words(33)}, "completion")
    assert outcome.usage.prompt_tokens == 33


@pytest.mark.parametrize(
    ("body", "api", "param", "text"),
    [
        (chat() | {"messages": []}, "chat", "messages", "messages"),
        ({"model": "m"}, "chat", "messages", "messages"),
        (chat(5), "chat", "messages", "string or a list of parts"),
        (chat([{"type": "video"}]), "chat", "messages", "type"),
        (chat([{"type": "text"}]), "chat", "messages", "needs text"),
        (chat(temperature=-0.1), "chat", "temperature", "0 or more"),
        (chat(top_k=-2), "chat", "top_k", "-1 for off"),
        (chat(max_tokens=0), "chat", "max_tokens", "1 or more"),
        (chat(max_completion_tokens=0), "chat", "max_completion_tokens", "1 or more"),
        (chat(n=0), "chat", "n", "greater than or equal to 1"),
        (chat(stream_options={"include_usage": True}), "chat", "stream_options", "stream is true"),
        (chat(tool_choice="required"), "chat", "tool_choice", "needs tools"),
        (chat(top_logprobs=2), "chat", "top_logprobs", "needs logprobs"),
        (chat(response_format={"type": "yaml"}), "chat", "response_format", "type"),
        (chat(prompt_logprobs=1), "chat", "prompt_logprobs", "prompt_logprobs"),
        ({"model": "m", "prompt": ""}, "completion", "prompt", "empty"),
        ({"model": "m", "prompt": {"a": 1}}, "completion", "prompt", "must be a string"),
        ({"model": "m", "prompt": [-1]}, "completion", "prompt", "must be a string"),
        ({"model": "m", "prompt": "a", "best_of": 4}, "completion", "best_of", "equals n"),
        ({"model": "m", "prompt": words(32768)}, "completion", "prompt", "maximum context length"),
        ({"model": "m", "prompt": "a " * 300_000}, "completion", "prompt", "maximum context length"),
    ],
)
async def test_bad_input_is_refused_with_its_field(
    engine: VirtualEngine, body: dict, api: str, param: str, text: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ask(engine, body, api)
    assert refused.value.param == param
    assert text in refused.value.message
    assert "pydantic" not in refused.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b'{"messages": 3}', b"\xff"])
async def test_what_is_no_request_is_refused(engine: VirtualEngine, raw: bytes) -> None:
    broken = call(chat())
    with pytest.raises(InvalidRequest):
        await engine.generate(type(broken)(broken.response_id, broken.api, raw), RecordedReply())


async def test_another_model_is_not_found(engine: VirtualEngine) -> None:
    with pytest.raises(NotFound, match="'other'"):
        await ask(engine, chat() | {"model": "other"})


async def test_unknown_fields_and_too_much_are_tolerated(engine: VirtualEngine) -> None:
    reply, _ = await ask(
        engine, chat(temperature=3, top_p=1.5, top_k=-1, frequency_penalty=1, metadata={"a": 1}, later="field")
    )
    assert reply.status == 200
