"""Reading requests on all surfaces: what is refused, and what of a good one is understood."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.conversations import Ask, Image, Opaque, ToolResult, ToolUse, Turn
from tandem_api.openai.requests import RequestError
from tandem_api.replies import Text, Thinking
from tandem_api.surfaces import Chat, Messages, Responses, Surface

SURFACES: dict[str, Surface] = {"chat": Chat(), "responses": Responses(), "messages": Messages()}
PIXEL = "data:image/png;base64,AA=="
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]
FUNCTIONS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]

CHAT = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]},
    {
        "role": "assistant",
        "content": "I call.",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "done"},
]
RESPONSES = [
    {"role": "developer", "content": "Be brief."},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": PIXEL}],
    },
    {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I call."}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
    {"type": "function_call_output", "call_id": "c", "output": "done"},
    {"type": "web_search_call", "id": "w", "status": "completed"},
]
MESSAGES = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "I call."},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "done"}]},
            {"type": "document", "source": {"type": "text", "data": "x"}},
        ],
    },
]
CONVERSATIONS: dict[str, tuple[str, Any]] = {
    "chat": ("messages", CHAT),
    "responses": ("input", RESPONSES),
    "messages": ("messages", MESSAGES),
}
LOOK = Turn("user", (Text("Look"), Image(PIXEL)))


def read(surface: str, **members: Any) -> Ask:
    name, conversation = CONVERSATIONS[surface]
    return SURFACES[surface].read(json.dumps({"model": "m", name: conversation} | members).encode())


def refusal(surface: str, **members: Any) -> str:
    with pytest.raises(RequestError) as error:
        read(surface, **members)
    return error.value.message


def test_a_chat_is_understood() -> None:
    assert read("chat").turns == (
        Turn("system", (Text("Be brief."),)),
        LOOK,
        Turn("assistant", (Text("I call."), ToolUse("c", "f", '{"a":1}'))),
        Turn("user", (ToolResult("c", "done"),)),
    )


def test_the_input_of_a_response_is_understood() -> None:
    assert read("responses").turns == (
        Turn("system", (Text("Be brief."),)),
        LOOK,
        Turn("assistant", (Thinking("hm"),)),
        Turn("assistant", (Text("I call."),)),
        Turn("assistant", (ToolUse("c", "f", '{"a":1}'),)),
        Turn("user", (ToolResult("c", "done"),)),
        Turn("assistant", (Opaque("web_search_call"),)),
    )


def test_messages_are_understood() -> None:
    assert read("messages").turns == (
        LOOK,
        Turn("assistant", (Thinking("hm", "s"), Text("I call."), ToolUse("c", "f", '{"a":1}'))),
        Turn("user", (ToolResult("c", "done"), Opaque("document"))),
    )


def test_an_image_may_be_elsewhere() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://images.test/a.png"}}
    ask = read("messages", messages=[{"role": "user", "content": [image]}])
    assert ask.turns == (Turn("user", (Image("https://images.test/a.png"),)),)


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]])
def test_system_is_a_string_or_blocks(system: Any) -> None:
    assert read("messages", system=system).instructions == "Be brief."


def test_a_string_is_a_conversation_of_responses() -> None:
    ask = read("responses", input="Hello", instructions="Be brief.")
    assert (ask.turns, ask.instructions) == ((Turn("user", (Text("Hello"),)),), "Be brief.")


def test_limits_and_choices_are_understood() -> None:
    chat = read("chat", max_completion_tokens=5, stop="x", stream=True, stream_options={"include_usage": True})
    assert (chat.max_tokens, chat.stops, chat.stream, chat.include_usage) == (5, ("x",), True, True)
    messages = read("messages", max_tokens=5, stop_sequences=["x", ""], tools=TOOLS, tool_choice={"type": "none"})
    assert (messages.max_tokens, messages.stops, messages.calls) == (5, ("x",), False)
    responses = read("responses", max_output_tokens=5, tool_choice="none", reasoning={"effort": "none"})
    assert (responses.max_tokens, responses.calls, responses.thinks) == (5, False, False)
    assert read("chat").max_tokens is None


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user"}]}, "messages.0.content: "),
        (
            {"messages": [{"role": "user", "content": [{"type": "txt"}]}]},
            "must be a block of type text, image, tool_use",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text.text: "),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": ""}}]}]},
            "source.base64.media_type: ",
        ),
        (
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": "x"}]}
                ]
            },
            "tool_use.input: ",
        ),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"temperature": -0.1}, "temperature: "),
        ({"thinking": {"type": "enabled"}}, "thinking: thinking of type enabled needs budget_tokens"),
        ({"tool_choice": {"type": "any"}}, "tool_choice: needs tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice: names a tool that is not among"),
        ({"tools": [{"name": "f"}]}, "tools.0: a tool needs input_schema"),
        ({"system": [{"type": "image", "text": "x"}]}, "system.0.type: "),
        ({"stop_sequences": "x"}, "stop_sequences: "),
    ],
)
def test_bad_messages_are_refused_with_their_place(members: dict[str, Any], says: str) -> None:
    assert says in refusal("messages", **members)


@pytest.mark.parametrize("member", [{"previous_response_id": "r"}, {"background": True}, {"conversation": "c"}])
def test_what_needs_state_is_refused_with_the_reason(member: dict[str, Any]) -> None:
    message = refusal("responses", **member)
    assert message.startswith(f"{next(iter(member))}: is not supported")
    assert "nothing is stored here" in message


def test_a_reference_to_an_earlier_item_is_refused_with_the_reason() -> None:
    assert "nothing is stored here" in refusal("responses", input=[{"type": "item_reference", "id": "i"}])


@pytest.mark.parametrize("member", [{"background": False}, {"store": False}, {"store": True}, {"conversation": None}])
def test_what_needs_no_state_is_taken(member: dict[str, Any]) -> None:
    read("responses", **member)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"input": []}, "input: "),
        ({"input": [{"content": "x"}]}, "must be an item with a type, or with a role"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "input.0.message.content.0.text.text: "),
        ({"max_output_tokens": 0}, "max_output_tokens: "),
    ],
)
def test_bad_input_is_refused_with_its_place(members: dict[str, Any], says: str) -> None:
    assert says in refusal("responses", **members)


@pytest.mark.parametrize("surface", SURFACES)
def test_a_request_that_is_passed_on_keeps_all_it_had(surface: str) -> None:
    ask = read(surface, metadata={"a": "b"}, unknown=[1])
    passed = json.loads(SURFACES[surface].rewritten(ask, "other", ask.turns))
    assert passed == dict(ask.given) | {"model": "other"}


@pytest.mark.parametrize("surface", SURFACES)
def test_turns_that_are_written_anew_say_the_same(surface: str) -> None:
    turns = read(surface).turns
    anew = [Turn(turn.role, turn.parts) for turn in turns]
    again = SURFACES[surface].read(SURFACES[surface].rewritten(read(surface), "m", anew)).turns

    def parts(turns: Any) -> list[Any]:
        # Thinking can't be handed back on every surface; what means nothing here can't be made again.
        return [part for turn in turns for part in turn.parts if not isinstance(part, Thinking | Opaque)]

    assert parts(again) == parts(turns)


@pytest.mark.parametrize("surface", SURFACES)
@given(body=st.binary(max_size=40))
def test_no_bytes_do_worse_than_to_be_refused(surface: str, body: bytes) -> None:
    with pytest.raises(RequestError):
        SURFACES[surface].read(body)


def test_errors_have_the_shape_of_their_surface() -> None:
    body = json.loads(SURFACES["messages"].error(404, "no"))
    assert body == {"type": "error", "error": {"type": "not_found_error", "message": "no"}}
    for surface in ("chat", "responses"):
        body = json.loads(SURFACES[surface].error(404, "no", param="model", code="c"))
        assert body == {"error": {"message": "no", "type": "invalid_request_error", "param": "model", "code": "c"}}
