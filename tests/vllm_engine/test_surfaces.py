"""Messages and Responses of a pair on real vLLM: the official clients put together of a stream what comes whole."""

from typing import Any

import anthropic
import openai
import pytest
from tandem_engine.vllm import VllmEngine
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.surfaces.grammar import assert_message_grammar, assert_response_grammar
from tests.surfaces.transport import Transport
from tests.vllm_engine.clients import by
from tests.vllm_engine.engines import MODEL, Pair
from tests.vllm_engine.forced import forced

pytestmark = pytest.mark.vllm

LONG = "how are you today? " * 20
SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}},
    "required": ["on"],
    "additionalProperties": False,
}
SWITCH: Any = {"name": "switch", "description": "Switches the lamp.", "input_schema": SCHEMA, "strict": True}
TURNS: Any = [
    {"role": "user", "content": "Light, please."},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "a lamp", "signature": "s"},
            {"type": "tool_use", "id": "toolu_1", "name": "switch", "input": {"on": True}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "The lamp is on."}]},
]
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": LONG}]}
GREEDY = {"temperature": 0}
ASKS: dict[str, dict[str, Any]] = {
    "text": {},
    "system": {"system": [{"type": "text", "text": "Answer briefly."}]},
    "tool": {"tools": [SWITCH], "tool_choice": {"type": "tool", "name": "switch"}, "max_tokens": 64},
    "any": {"tools": [SWITCH], "tool_choice": {"type": "any"}, "max_tokens": 60},
    "cut call": {"tools": [SWITCH], "tool_choice": {"type": "tool", "name": "switch"}, "max_tokens": 12},
    "none": {"tools": [SWITCH], "tool_choice": {"type": "none"}},
    "result": {"messages": TURNS, "tools": [SWITCH]},
    "budget": {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
    "thinking refused": {"thinking": {"type": "disabled"}},
}
THOUGHT = "<think>some thought: é天🌌</think>An answer: é天🌌, and more."
CALL = '<tool_call>\n{"name": "switch", "arguments": {"on": true}}\n</tool_call>'
CALLS = f"{CALL}\n{CALL.replace('true', 'false')}"


def plain(message: Any) -> tuple[Any, ...]:
    """A message without what is drawn for each answer."""
    drawn = ("id", "signature")
    blocks = [{k: v for k, v in block.to_dict().items() if k not in drawn} for block in message.content]
    return blocks, message.stop_reason, message.stop_sequence, message.usage.output_tokens


async def both(transport: Transport, **asked: Any) -> Any:
    """The whole answer, which a stream comes to, too."""
    client = transport.claude
    extra = {"extra_body": GREEDY}
    whole = await client.messages.create(**asked, **extra)
    async with client.messages.stream(**asked, **extra) as stream:
        streamed = await stream.get_final_message()
    assert_message_grammar(b"".join(transport.replies[-1].chunks))
    assert plain(whole) == plain(streamed)
    assert whole.id.startswith("msg_")
    assert streamed.id.startswith("msg_")
    return whole


@pytest.mark.parametrize("more", ASKS.values(), ids=ASKS)
async def test_a_pair_answers_messages_alike_in_both_modes(pair: Pair, more: dict[str, Any]) -> None:
    transport = Transport(by(pair))
    whole = await both(transport, **{**ASK, **more})
    assert {reply.kv.outcome for reply in transport.replies} == {KvReport.TRANSFERRED}
    alone = Transport(lambda call, reply: pair.decode.generate(call, reply))
    assert plain(await both(alone, **{**ASK, **more})) == plain(whole)


async def test_a_forced_tool_is_used(pair: Pair) -> None:
    whole = await both(Transport(by(pair)), **{**ASK, **ASKS["tool"]})
    (block,) = whole.content
    assert (block.type, block.name, set(block.input)) == ("tool_use", "switch", {"on"})
    assert whole.stop_reason == "tool_use"


async def test_a_stop_sequence_is_told(pair: Pair) -> None:
    transport = Transport(by(pair))
    said = (await both(transport, **ASK)).content[0].text
    stop = said[6:9]
    whole = await both(transport, **ASK, stop_sequences=[stop])
    assert (whole.stop_reason, whole.stop_sequence) == ("stop_sequence", stop)


async def test_tokens_are_counted_as_they_are_used(pair: Pair) -> None:
    client = Transport(by(pair)).claude
    for more in ({}, {"system": "Answer briefly.", "tools": [SWITCH]}, {"messages": TURNS}):
        asked = {name: value for name, value in {**ASK, **more}.items() if name != "max_tokens"}
        counted = await client.messages.count_tokens(**asked)
        assert counted.input_tokens == (await client.messages.create(**{**ASK, **more})).usage.input_tokens


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"messages": []}, "messages must not be empty"),
        ({"tool_choice": {"type": "any"}}, "needs tools"),
        ({"tools": [SWITCH], "tool_choice": {"type": "tool", "name": "other"}}, "not among tools"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "budget_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "content"),
        ({"model": "other"}, "other"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": -2}, "top_k"),
    ],
    ids=str,
)
async def test_what_is_wrong_in_a_message_is_said(pair: Pair, wrong: dict[str, Any], says: str) -> None:
    for answering in (by(pair), pair.decode.generate):
        with pytest.raises(anthropic.APIStatusError, match=says) as caught:
            await Transport(answering).claude.messages.create(**{**ASK, "extra_body": wrong})
        assert caught.value.status_code in (400, 404)


# ---- thinking, several calls, many bytes: the text is forced, the classes are vLLM's


@pytest.fixture
def engine(pair: Pair) -> VllmEngine:
    return pair.decode


async def test_thinking_comes_before_text_and_no_character_is_cut(engine: VllmEngine) -> None:
    whole = await both(Transport(await forced(engine, THOUGHT)), **ASK)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert whole.content[0].thinking == "some thought: é天🌌"
    assert whole.content[1].text == "An answer: é天🌌, and more."
    assert whole.content[0].signature


async def test_several_calls_are_told_apart(engine: VllmEngine) -> None:
    whole = await both(Transport(await forced(engine, CALLS, reasoning_parser="")), **ASK, tools=[SWITCH])
    assert [(block.type, block.input) for block in whole.content] == [
        ("tool_use", {"on": True}),
        ("tool_use", {"on": False}),
    ]
    assert whole.stop_reason == "tool_use"


async def test_text_goes_before_a_call(engine: VllmEngine) -> None:
    whole = await both(Transport(await forced(engine, f"Gladly. {CALL}", reasoning_parser="")), **ASK, tools=[SWITCH])
    assert [block.type for block in whole.content] == ["text", "tool_use"]


CUT = CALL[: CALL.index("true")]
ENDS: dict[str, tuple[str, str | None]] = {"max_tokens": ("length", None), "stop_sequence": ("stop", "tru")}


@pytest.mark.parametrize("reason", ENDS)
async def test_a_call_that_is_cut_is_a_call_as_far_as_it_goes(engine: VllmEngine, reason: str) -> None:
    end, stop = ENDS[reason]
    transport = Transport(await forced(engine, CUT, reasoning_parser="", end=end, stop=stop))
    whole = await both(transport, **ASK, tools=[SWITCH])
    assert [(block.type, block.name) for block in whole.content] == [("tool_use", "switch")]
    assert (whole.stop_reason, whole.stop_sequence) == (reason, stop)


async def test_text_after_a_call_changes_nothing_of_it(engine: VllmEngine) -> None:
    said = f"{CALL}\nThat was it."
    whole = await both(Transport(await forced(engine, said, reasoning_parser="")), **ASK, tools=[SWITCH])
    assert (whole.content[0].type, whole.content[0].input) == ("tool_use", {"on": True})


async def test_an_answer_without_text_is_an_empty_block(engine: VllmEngine) -> None:
    whole = await both(Transport(await forced(engine, "<|im_end|>", reasoning_parser="")), **ASK)
    assert [(block.type, block.text) for block in whole.content] in ([("text", "")], [("text", "<|im_end|>")])


# ---- Responses

RESPOND: dict[str, Any] = {"model": MODEL, "max_output_tokens": 20, "input": LONG, "temperature": 0}
FUNCTION = {"type": "function", "name": "switch", "parameters": SCHEMA, "strict": True}
RESPONDS: dict[str, dict[str, Any]] = {
    "text": {},
    "instructions": {"instructions": "Answer briefly."},
    "named": {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "switch"}, "max_output_tokens": 64},
    "cut call": {"tools": [FUNCTION], "tool_choice": "required", "max_output_tokens": 12},
    "schema": {
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}},
        "max_output_tokens": 40,
    },
    "results": {
        "input": [
            {"role": "user", "content": "Light, please."},
            {"type": "function_call", "call_id": "c1", "name": "switch", "arguments": '{"on": true}'},
            {"type": "function_call_output", "call_id": "c1", "output": "The lamp is on."},
        ]
    },
}


def output(response: Any) -> list[tuple[Any, ...]]:
    """Items without their ids."""
    items = [item.to_dict() for item in response.output]
    return [
        (i["type"], i.get("name"), i.get("arguments"), str([p["text"] for p in i.get("content") or ()])) for i in items
    ]


async def both_responses(transport: Transport, **asked: Any) -> Any:
    whole = await transport.gpt.responses.create(**asked)
    # The client's `stream` wants `response.completed` alone, which OpenAI does not send where an answer was cut.
    streamed = [event async for event in await transport.gpt.responses.create(**asked, stream=True)][-1].response
    assert_response_grammar(b"".join(transport.replies[-1].chunks))
    assert output(whole) == output(streamed)
    assert (whole.status, whole.usage.output_tokens) == (streamed.status, streamed.usage.output_tokens)
    assert whole.id.startswith("resp_")
    assert streamed.id.startswith("resp_")
    assert whole.store is False
    return whole


@pytest.mark.parametrize("more", RESPONDS.values(), ids=RESPONDS)
async def test_a_pair_gives_responses_alike_in_both_modes(pair: Pair, more: dict[str, Any]) -> None:
    transport = Transport(by(pair))
    whole = await both_responses(transport, **{**RESPOND, **more})
    assert {reply.kv.outcome for reply in transport.replies} == {KvReport.TRANSFERRED}
    alone = Transport(lambda call, reply: pair.decode.generate(call, reply))
    assert output(await both_responses(alone, **{**RESPOND, **more})) == output(whole)


async def test_a_response_that_was_cut_is_incomplete(pair: Pair) -> None:
    whole = await both_responses(Transport(by(pair)), **{**RESPOND, "max_output_tokens": 3})
    assert (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_a_response_has_what_was_thought(engine: VllmEngine) -> None:
    whole = await both_responses(Transport(await forced(engine, THOUGHT)), **RESPOND)
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output_text == "An answer: é天🌌, and more."


async def test_a_call_that_is_cut_is_an_item_of_its_own(engine: VllmEngine) -> None:
    transport = Transport(await forced(engine, CUT, reasoning_parser="", end="length"))
    whole = await both_responses(transport, **{**RESPOND, "tools": [FUNCTION]})
    assert [(item.type, item.arguments) for item in whole.output] == [("function_call", '{"on":')]
    assert whole.status == "incomplete"


@pytest.mark.parametrize("stateful", ["previous_response_id", "background", "conversation"])
async def test_responses_that_need_state_are_refused(pair: Pair, stateful: str) -> None:
    for answering in (by(pair), pair.decode.generate):
        with pytest.raises(openai.BadRequestError, match="nothing is stored here"):
            await Transport(answering).gpt.responses.create(**RESPOND, extra_body={stateful: "resp_1"})


async def test_a_cap_holds_for_all_surfaces(pair: Pair) -> None:
    transport = Transport(pair.decode.generate)
    message = await transport.claude.messages.create(**{**ASK, "max_tokens": 9000})
    assert message.usage.output_tokens <= 64
    endless = {**RESPOND, "max_output_tokens": 9000, "extra_body": {"ignore_eos": True}}
    assert (await transport.gpt.responses.create(**endless)).usage.output_tokens == 64
