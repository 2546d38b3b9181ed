import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.replies import Finish, Usage
from tandem_virtual.answering import Answering
from tandem_virtual.defaults import register_defaults
from tandem_virtual.models import Function, ProxyModel, StaticModel, ToolModel, VirtualModel
from tandem_virtual.outcomes import Forwarded, Whole
from tandem_virtual.registry import Registries

from tests.api.sdks import events_of
from tests.virtual_models.asking import SURFACES, answered, asked, request, said, streamed, with_models

TEXT = "One two three four five"
ASKING = ToolModel(id="t", calls=(Function("ask", {"question": "Well?", "options": [1]}), Function("stop", {})))
EACH_SURFACE = pytest.mark.parametrize("surface", SURFACES)


def frames(registries: Registries, surface: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    stream = streamed(registries, surface, body)
    return events_of(b"".join((stream.opening, *stream.chunks, stream.closing)))


@EACH_SURFACE
def test_a_static_model_says_its_content(surface: str) -> None:
    registries = with_models(StaticModel(id="m", content=TEXT))
    answer = answered(registries, surface, request(surface, "m"))
    assert said(surface, answer) == (TEXT, [], (8, 6))
    assert answer["model"] == "m"


@EACH_SURFACE
def test_a_tool_model_shows_its_question_and_calls_its_functions(surface: str) -> None:
    answer = answered(with_models(ASKING), surface, request(surface, "t"))
    calls = [("ask", {"question": "Well?", "options": [1]}), ("stop", {})]
    assert said(surface, answer) == ("Well?", calls, (8, 42))
    assert (
        "tool_calls" in json.dumps(answer) or "tool_use" in json.dumps(answer) or "function_call" in json.dumps(answer)
    )


@EACH_SURFACE
def test_who_refuses_tools_gets_the_text_alone(surface: str) -> None:
    choice = {"type": "none"} if surface == "messages" else "none"
    answer = answered(with_models(ASKING), surface, request(surface, "t", tool_choice=choice))
    assert said(surface, answer) == ("Well?", [], (8, 2))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"message": "m", "question": "q"}, "m"),
        ({"message": "", "question": "q"}, "q"),
        ({"message": 7, "question": "q"}, "q"),
        ({"question": 7}, ""),
        ({}, ""),
    ],
)
def test_a_call_is_shown_by_its_message_or_its_question(arguments: dict[str, Any], shown: str) -> None:
    assert Function("f", arguments).display == shown


@EACH_SURFACE
def test_a_stream_says_what_the_whole_answer_says(surface: str) -> None:
    registries = with_models(ASKING)
    events = frames(registries, surface, request(surface, "t", **_usage(surface)))
    answer = answered(registries, surface, request(surface, "t"))
    text, calls, tokens = said(surface, answer)
    match surface:
        case "chat":
            deltas = [data["choices"][0]["delta"] for _, data in events[:-1] if data["choices"]]
            assert "".join(delta.get("content") or "" for delta in deltas) == text
            called = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
            assert [(call["name"], json.loads(call["arguments"])) for call in called] == calls
            assert events[-2][1]["usage"]["completion_tokens"] == tokens[1]
        case "responses":
            assert events[-2][1]["response"] == answer
        case _:
            started = [data["content_block"] for name, data in events if name == "content_block_start"]
            assert [block["name"] for block in started[1:]] == [name for name, _ in calls]
            assert events[-2][1]["usage"] == {"input_tokens": tokens[0], "output_tokens": tokens[1]}


def _usage(surface: str) -> dict[str, Any]:
    return {"stream_options": {"include_usage": True}} if surface == "chat" else {}


@EACH_SURFACE
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_same_request_has_the_same_answer(surface: str, text: str) -> None:
    registries = with_models(StaticModel(id="m", content=text, thinking="Well."))
    assert asked(registries, surface, request(surface, "m")) == asked(registries, surface, request(surface, "m"))
    assert said(surface, answered(registries, surface, request(surface, "m")))[0] == text


def test_stream_chunks_are_used_as_they_are() -> None:
    model = StaticModel(id="m", content="abc def", stream_chunks=("a", "bc", " def"))
    deltas = [
        data["delta"]["text"] for _, data in frames(with_models(model), "messages", request("messages", "m"))[2:-3]
    ]
    assert deltas == ["a", "bc", " def"]
    with pytest.raises(ValueError, match="must join to content"):
        StaticModel(id="m", content="abc", stream_chunks=("a",))


@EACH_SURFACE
def test_thinking_comes_first_unless_it_is_refused(surface: str) -> None:
    registries = with_models(StaticModel(id="m", content="Yes.", thinking="Is it?"))
    refused: dict[str, dict[str, Any]] = {
        "chat": {"reasoning_effort": "none"},
        "responses": {"reasoning": {"effort": "none"}},
        "messages": {"thinking": {"type": "disabled"}},
    }
    thinking = json.dumps(answered(registries, surface, request(surface, "m")))
    assert "Is it?" in thinking
    assert thinking.index("Is it?") < thinking.index("Yes.") or surface == "chat"
    assert "Is it?" not in json.dumps(answered(registries, surface, request(surface, "m", **refused[surface])))


@EACH_SURFACE
@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_cuts_an_answer(surface: str, stream: bool) -> None:
    registries = with_models(StaticModel(id="m", content=TEXT))
    body = request(surface, "m") | {"max_output_tokens" if surface == "responses" else "max_tokens": 2}
    if stream:
        text = json.dumps(frames(registries, surface, body))
        assert "length" in text or "max_tokens" in text or "incomplete" in text
        assert "three" not in text
    else:
        answer = answered(registries, surface, body)
        assert said(surface, answer) == ("One two ", [], (8, 2))


def test_no_more_tokens_are_told_than_were_allowed() -> None:
    answer = answered(with_models(ProxyModel(id="p")), "chat", request("chat", "p", max_tokens=20))
    assert (said("chat", answer), answer["choices"][0]["finish_reason"]) == (("Hello world", [], (8, 20)), "stop")


def test_a_character_is_never_cut_in_two() -> None:
    registries = with_models(StaticModel(id="m", content="ab世界"))
    assert said("chat", answered(registries, "chat", request("chat", "m", max_tokens=1)))[0] == "ab"


def test_a_call_that_does_not_fit_is_left_out() -> None:
    answer = answered(with_models(ASKING), "messages", request("messages", "t", max_tokens=22))
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use"]
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 22)


def test_a_stop_sequence_ends_an_answer() -> None:
    registries = with_models(StaticModel(id="m", content=TEXT))
    answer = answered(registries, "messages", request("messages", "m", stop_sequences=["four", " three"]))
    assert answer["content"] == [{"type": "text", "text": "One two"}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", " three")
    choice = answered(registries, "chat", request("chat", "m", stop=" three"))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("One two", "stop")


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        (StaticModel(id="m", content="a"), ("stop", "end_turn")),
        (StaticModel(id="m", content="a", finish=Finish.LENGTH), ("length", "max_tokens")),
        (ToolModel(id="m", calls=(Function("f", {}),)), ("tool_calls", "tool_use")),
        (ProxyModel(id="m"), ("stop", "end_turn")),
    ],
)
def test_each_surface_has_its_own_words_for_the_end(model: VirtualModel, reasons: tuple[str, str]) -> None:
    registries = with_models(model)
    chat = answered(registries, "chat", request("chat", "m"))["choices"][0]["finish_reason"]
    assert (chat, answered(registries, "messages", request("messages", "m"))["stop_reason"]) == reasons


def test_declared_usage_is_told_and_zero_is_not() -> None:
    usage = Usage(100, 50, cached=60, reasoning=7)
    registries = with_models(StaticModel(id="m", content="a", usage=usage))
    assert answered(registries, "chat", request("chat", "m"))["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    assert answered(registries, "messages", request("messages", "m"))["usage"] == {
        "input_tokens": 40,
        "output_tokens": 50,
        "cache_read_input_tokens": 60,
        "output_tokens_details": {"thinking_tokens": 7},
    }
    assert frames(registries, "chat", request("chat", "m"))[-2][1]["usage"]["total_tokens"] == 150


def test_thinking_is_told_as_a_part_of_the_answers_tokens() -> None:
    registries = with_models(StaticModel(id="m", content="12345", thinking="123456789"))
    usage = answered(registries, "chat", request("chat", "m"))["usage"]
    assert (usage["completion_tokens"], usage["completion_tokens_details"]) == (5, {"reasoning_tokens": 3})


def test_a_role_is_told_as_it_is_declared() -> None:
    registries = with_models(StaticModel(id="m", content="a", role="critic"))
    assert answered(registries, "chat", request("chat", "m"))["choices"][0]["message"]["role"] == "critic"
    assert frames(registries, "messages", request("messages", "m"))[0][1]["message"]["role"] == "critic"


@EACH_SURFACE
def test_a_proxy_without_a_delegate_says_the_last_message(surface: str) -> None:
    answer = answered(with_models(ProxyModel(id="p")), surface, request(surface, "p"))
    assert said(surface, answer) == ("Hello world", [], (8, 50))


@EACH_SURFACE
def test_a_proxy_has_a_virtual_model_answer(surface: str) -> None:
    registries = with_models(
        StaticModel(id="m", content=TEXT, delay=0.2),
        ProxyModel(id="p", delegate="q", delay=0.1),
        ProxyModel(id="q", delegate="m"),
    )
    assert said(surface, answered(registries, surface, request(surface, "p")))[0] == TEXT
    assert asked(registries, surface, request(surface, "p")).delay == pytest.approx(0.3)
    assert (
        frames(registries, surface, request(surface, "p"))[:-1]
        == frames(registries, surface, request(surface, "m"))[:-1]
    )


@EACH_SURFACE
def test_a_proxy_forwards_to_other_models_with_all_that_was_asked(surface: str) -> None:
    registries = with_models(ProxyModel(id="p", delegate="real", delay=0.1))
    body = request(surface, "p", temperature=0.5, metadata={"user_id": "u"}, stream=True)
    forwarded = asked(registries, surface, body)
    assert isinstance(forwarded, Forwarded)
    assert json.loads(forwarded.body) == body | {"model": "real"}
    assert (forwarded.surface, forwarded.model, forwarded.stream, forwarded.via, forwarded.delay) == (
        surface,
        "real",
        True,
        ("p",),
        0.1,
    )


def test_a_circle_of_proxies_over_the_platform_is_found() -> None:
    registries = with_models(ProxyModel(id="p", delegate="real"))
    answering = Answering(lambda: 0, lambda: "k")
    body = json.dumps(request("chat", "p")).encode()
    outcome = answering.answer(SURFACES["chat"], registries.openai, body, via=("real",))
    assert isinstance(outcome, Whole)
    assert outcome.status == 500
    assert b"real -> p -> real" in outcome.body


@EACH_SURFACE
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"model": 7}', "model"),
        (b'"\xff"', "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"model": "m", "messages": "x", "input": 5}', "should be"),
    ],
)
def test_a_body_that_cant_be_read_is_a_400(surface: str, body: bytes, message: str) -> None:
    error = answered(with_models(), surface, body, status=400)
    assert message in error["error"]["message"]
    assert error["error"]["type"] == "invalid_request_error"
    assert ("type" in error) == (surface == "messages")
    assert "pydantic" not in error["error"]["message"]


@EACH_SURFACE
@pytest.mark.parametrize("model", ["", None])
def test_a_request_without_a_model_is_a_400(surface: str, model: str | None) -> None:
    error = answered(with_models(), surface, request(surface, "") | {"model": model}, status=400)
    assert "model is required" in error["error"]["message"]


@given(
    st.binary(max_size=80)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["model", "messages", "input", "role", "content", "type", "text", "system", "tools"]),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_no_body_is_answered_with_a_500(body: bytes) -> None:
    registries = Registries()
    register_defaults(registries)
    for surface in SURFACES:
        outcome = asked(registries, surface, body)
        assert getattr(outcome, "status", 200) in (200, 400, 404)


def test_a_model_that_breaks_is_a_500_without_its_words() -> None:
    def broken(_turns: Any) -> Any:
        raise RuntimeError("secret")

    error = answered(with_models(ProxyModel(id="p", transforms=(broken,))), "chat", request("chat", "p"), status=500)
    assert error["error"]["type"] == "api_error"
    assert "secret" not in error["error"]["message"]
