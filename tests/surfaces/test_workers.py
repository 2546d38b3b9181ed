"""Messages, their counting and Responses by workers: a router, a disaggregated pair, the official clients."""

import json
import re
from typing import Any

import anthropic
import openai
import pytest

from tests.router.platforms import Platform
from tests.surfaces.grammar import assert_message_grammar, assert_response_grammar

TEXT = "Why is the sky blue? " * 20
ASK: dict[str, Any] = {"model": "sky", "max_tokens": 12, "messages": [{"role": "user", "content": TEXT}]}
RESPOND: dict[str, Any] = {"model": "sky", "max_output_tokens": 12, "input": TEXT}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: dict[str, Any] = {"name": "weather", "description": "Of a city", "input_schema": SCHEMA}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Is it warm in Rome?"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "R"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "31 degrees"}]},
]
ASKS: dict[str, dict[str, Any]] = {
    "text": {},
    "system": {"system": "Be brief."},
    "system of blocks": {"system": [{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}]},
    "forced tool": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 60},
    "any tool": {"tools": [TOOL], "tool_choice": {"type": "any"}, "max_tokens": 60},
    "cut tool": {"tools": [TOOL], "tool_choice": {"type": "any"}, "max_tokens": 2},
    "tool result": {"messages": TURNS, "tools": [TOOL]},
    "image": {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "What is it?"}]}]},
    "image in a result": {
        "messages": [*TURNS[:2], {"role": "user", "content": [{**TURNS[2]["content"][0], "content": [IMAGE]}]}],
    },
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
    "many bytes": {"messages": [{"role": "user", "content": "Größe? 天空 🌌"}]},
}


@pytest.mark.parametrize("more", ASKS.values(), ids=ASKS)
def test_a_stream_of_messages_comes_to_the_whole_answer(claude: anthropic.Anthropic, more: dict[str, Any]) -> None:
    whole = claude.messages.create(**{**ASK, **more})
    with claude.messages.stream(**{**ASK, **more}) as stream:
        streamed = stream.get_final_message()
    assert whole.id.startswith("msg_")
    assert whole.id != streamed.id
    ids = re.compile(r"toolu_\w+-?")
    plain, gathered = [[block.to_dict() for block in message.content] for message in (whole, streamed)]
    for block in (*plain, *gathered):
        block.pop("id", None)
    assert ids.sub("", str(plain)) == ids.sub("", str(gathered))
    assert plain
    assert (whole.stop_reason, whole.stop_sequence) == (streamed.stop_reason, streamed.stop_sequence)
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0


async def test_the_async_client_has_messages(pair: Platform) -> None:
    async with anthropic.AsyncAnthropic(base_url=pair.url, api_key="local", max_retries=0) as client:
        whole = await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            texts = [text async for text in stream.text_stream]
    assert whole.content[0].to_dict()["text"] == "".join(texts) != ""


@pytest.mark.parametrize("more", ASKS.values(), ids=ASKS)
def test_messages_have_the_grammar(pair: Platform, more: dict[str, Any]) -> None:
    answer = pair.http.post("/v1/messages", json={**ASK, **more, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert_message_grammar(answer.content)


def test_a_forced_tool_is_called(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**{**ASK, **ASKS["forced tool"]})
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.name, set(block.input)) == ("weather", {"city"})
    assert message.stop_reason == "tool_use"


def test_the_stop_sequence_that_ended_an_answer_is_told(claude: anthropic.Anthropic) -> None:
    text = claude.messages.create(**ASK).content[0].to_dict()["text"]
    stop = str(text)[10:13]
    message = claude.messages.create(**ASK, stop_sequences=["never said", stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
    assert message.content[0].to_dict()["text"] == str(text)[: str(text).index(stop)]


def test_counted_tokens_are_those_of_the_prompt(claude: anthropic.Anthropic) -> None:
    for more in ({}, {"tools": [TOOL], "system": "Be brief."}, {"messages": TURNS}):
        asked = {name: value for name, value in {**ASK, **more}.items() if name != "max_tokens"}
        counted = claude.messages.count_tokens(**asked).input_tokens
        used = claude.messages.create(**{**ASK, **more}).usage
        assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_kv_moves_for_messages_and_responses_and_counting_asks_decode_alone(pair: Platform) -> None:
    fresh = {**ASK, "messages": [{"role": "user", "content": "A prompt that nobody has cached. " * 9}]}
    for path, body in (("/v1/messages", fresh), ("/v1/responses", {**RESPOND, "input": "Another such prompt. " * 9})):
        assert "transferred" in pair.http.post(path, json=body).headers["server-timing"]
    counted = pair.http.post("/v1/messages/count_tokens", json=fresh)
    assert "prefill" not in counted.headers["server-timing"]
    assert list(counted.json()) == ["input_tokens"]


def test_all_surfaces_say_the_same_of_the_same_conversation(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    chat = gpt.chat.completions.create(model="sky", max_tokens=12, messages=[{"role": "user", "content": TEXT}])
    message = claude.messages.create(**ASK)
    response = gpt.responses.create(**RESPOND)
    assert chat.choices[0].message.content == message.content[0].to_dict()["text"] == response.output_text != ""
    assert chat.usage is not None
    assert response.usage is not None
    assert chat.usage.total_tokens == response.usage.total_tokens


FUNCTION = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
RESPONDS: dict[str, dict[str, Any]] = {
    "text": {},
    "instructions": {"instructions": "Be brief."},
    "function": {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "weather"}, "max_output_tokens": 60},
    "required": {"tools": [FUNCTION], "tool_choice": "required", "max_output_tokens": 60},
    "cut": {"tools": [FUNCTION], "tool_choice": "required", "max_output_tokens": 2},
    "schema": {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}, "max_output_tokens": 60},
    "results": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Is it warm?"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "31"},
        ],
        "tools": [FUNCTION],
    },
}


@pytest.mark.parametrize("more", RESPONDS.values(), ids=RESPONDS)
def test_a_stream_of_responses_comes_to_the_whole_answer(
    pair: Platform, gpt: openai.OpenAI, more: dict[str, Any]
) -> None:
    whole = gpt.responses.create(**{**RESPOND, **more})
    stream = gpt.responses.create(**{**RESPOND, **more}, stream=True)
    last = list(stream)[-1].response
    assert whole.id.startswith("resp_")
    assert (whole.status, whole.output_text) == (last.status, last.output_text)
    calls = [[(i.name, i.arguments) for i in r.output if i.type == "function_call"] for r in (whole, last)]
    assert calls[0] == calls[1]
    assert whole.output_text or calls[0]
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (last.usage.input_tokens, last.usage.output_tokens)
    assert whole.store is False
    assert_response_grammar(pair.http.post("/v1/responses", json={**RESPOND, **more, "stream": True}).content)


@pytest.mark.parametrize(
    "member", [{"previous_response_id": "resp_1"}, {"background": True}, {"conversation": "conv_1"}], ids=str
)
def test_responses_that_need_state_are_refused_with_the_reason(gpt: openai.OpenAI, member: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match="nothing is stored here") as caught:
        gpt.responses.create(**RESPOND, **member)
    assert caught.value.param == next(iter(member))


CHAT: dict[str, Any] = {"model": "sky", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
SURFACES: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": (CHAT, "max_tokens"),
    "/v1/completions": ({"model": "sky", "max_tokens": 2, "prompt": "Hi"}, "max_tokens"),
    "/v1/messages": (CHAT, "max_tokens"),
    "/v1/responses": ({"model": "sky", "max_output_tokens": 2, "input": "Hi"}, "max_output_tokens"),
}


@pytest.mark.parametrize("path", SURFACES)
def test_limits_hold_on_each_surface_in_its_own_shape(pair: Platform, path: str) -> None:
    """Requirements 7.3."""
    body, limit = SURFACES[path]
    wrong = [b"{", b"[]", *({**body, **no} for no in ({"temperature": -0.1}, {"top_k": -2}, {limit: 0}))]
    for asked in wrong:
        answer = pair.http.post(path, content=asked if isinstance(asked, bytes) else json.dumps(asked).encode())
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), asked
        assert error["message"]
        assert (answer.json().get("type") == "error") == (path == "/v1/messages")
        assert ("code" in error) != (path == "/v1/messages")
    ended: Any = {"stop_sequences": ["a", "e"]} if path == "/v1/messages" else {}
    for clamped in ({"temperature": 3}, {"top_p": 1.5}, {limit: 9000, "stop": ["a", "e"], **ended}):
        if path == "/v1/responses" and limit in clamped:
            continue  # it knows no stop sequences: the answer would be 8,192 tokens long
        assert pair.http.post(path, json={**body, **clamped}).status_code == 200, clamped


def test_errors_have_the_shape_of_their_surface(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    with pytest.raises(anthropic.NotFoundError, match="nobody") as missing:
        claude.messages.create(**{**ASK, "model": "nobody"})
    body: Any = missing.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    assert body["request_id"] == missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        claude.messages.create(**ASK, extra_body={"temperature": -1})
    with pytest.raises(openai.NotFoundError) as other:
        gpt.responses.create(**{**RESPOND, "model": "nobody"})
    assert (other.value.code, other.value.param) == ("model_not_found", "model")


def test_a_virtual_model_forwards_on_all_surfaces(claude: anthropic.Anthropic, gpt: openai.OpenAI) -> None:
    real = claude.messages.create(**ASK).content[0].to_dict()["text"]
    forwarded = {**ASK, "model": "onwards"}
    assert claude.messages.create(**forwarded).content[0].to_dict()["text"] == real
    with claude.messages.stream(**forwarded) as stream:
        assert stream.get_final_text() == real
    response = gpt.responses.create(**{**RESPOND, "model": "onwards"})
    assert response.output_text == real
    last = list(gpt.responses.create(**{**RESPOND, "model": "onwards"}, stream=True))[-1]
    assert last.response.output_text == real
