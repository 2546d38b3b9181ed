import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tandem_virtual.catalogue import failing_models, register_failures, register_usage_fixtures
from tandem_virtual.models import Ending, Exhaustion, Failure, SequenceModel, Stage, StaticModel, Step
from tandem_virtual.outcomes import Dropped, Lost, Whole, stream_of
from tandem_virtual.registry import Registries

from tests.virtual_models.asking import SURFACES, answered, asked, request, streamed, with_models

EACH_SURFACE = pytest.mark.parametrize("surface", SURFACES)
DOCS = Path(__file__).parents[2] / "docs" / "failures.md"
TERMINAL = ("[DONE]", "message_stop", "message_delta", 'finish_reason":"', "response.completed")


@pytest.fixture
def catalogue() -> Registries:
    registries = Registries()
    register_failures(registries)
    return registries


def test_the_catalogue_is_exactly_this(catalogue: Registries) -> None:
    assert {model.id for model in catalogue.openai.list()} == {
        "virtual-fail-429",
        "virtual-fail-500",
        "virtual-fail-midstream-close",
        "virtual-fail-midstream-event",
        "virtual-fail-midstream-cleaneof",
        "virtual-fail-auth-401",
        "virtual-fail-502",
        "virtual-fail-503",
        "virtual-fail-400",
        "virtual-fail-timeout",
        "virtual-sequence-429",
    }
    assert [m.id for m in catalogue.openai.list()] == [m.id for m in catalogue.anthropic.list()]


@EACH_SURFACE
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("id", "status", "type"),
    [
        ("virtual-fail-429", 429, "rate_limit_error"),
        ("virtual-fail-500", 500, "api_error"),
        ("virtual-fail-auth-401", 401, "authentication_error"),
        ("virtual-fail-502", 502, "api_error"),
        ("virtual-fail-503", 503, "overloaded_error"),
        ("virtual-fail-400", 400, "invalid_request_error"),
    ],
)
def test_a_status_comes_before_any_byte_of_a_stream(
    catalogue: Registries, surface: str, stream: bool, id: str, status: int, type: str
) -> None:
    error = answered(catalogue, surface, request(surface, id, stream=stream), status=status)
    assert error["error"]["type"] == type
    assert error.get("type") == ("error" if surface == "messages" else None)


async def played(registries: Registries, surface: str, id: str) -> tuple[str, bool, list[float]]:
    """What came of a stream, whether the connection was cut, and all waits."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    came = b""
    try:
        async for chunk in stream_of(streamed(registries, surface, request(surface, id)), sleep):
            came += chunk
    except Lost:
        return came.decode(), True, waits
    return came.decode(), False, waits


@EACH_SURFACE
@pytest.mark.parametrize(
    ("id", "lost", "waits"),
    [
        ("virtual-fail-midstream-close", True, [0.05]),
        ("virtual-fail-midstream-cleaneof", False, [0.05]),
        ("virtual-fail-timeout", True, [0.05, 0.05, 5.0]),
    ],
)
async def test_a_failing_stream_has_some_content_and_no_terminal_event(
    catalogue: Registries, surface: str, id: str, lost: bool, waits: list[float]
) -> None:
    came, was_lost, waited = await played(catalogue, surface, id)
    assert "These are" in came
    assert not any(word in came for word in TERMINAL)
    assert "error" not in came.replace('"error":null', "")
    assert (was_lost, waited) == (lost, waits)


@EACH_SURFACE
async def test_an_error_event_is_in_the_surfaces_shape(catalogue: Registries, surface: str) -> None:
    came, lost, _ = await played(catalogue, surface, "virtual-fail-midstream-event")
    *_, frame = (frame for frame in came.split("\n\n") if frame and frame != "data: [DONE]")
    error = json.loads(frame.rpartition("data: ")[2])
    assert frame.startswith("event: error\n") == (surface != "chat")
    assert error["error"]["type"] == "api_error"
    assert error["error"]["message"] == "the stream failed on purpose"
    assert not lost
    if surface == "messages":
        assert error["type"] == "error"
        assert set(error["error"]) == {"type", "message"}


@EACH_SURFACE
def test_a_whole_answer_fails_as_far_as_it_can(catalogue: Registries, surface: str) -> None:
    for id in ("virtual-fail-midstream-close", "virtual-fail-midstream-cleaneof"):
        assert asked(catalogue, surface, request(surface, id)) == Dropped()
    assert asked(catalogue, surface, request(surface, "virtual-fail-timeout")) == Dropped(delay=5.0)
    answered(catalogue, surface, request(surface, "virtual-fail-midstream-event"), status=500)


def test_a_stream_fails_after_as_many_chunks_as_declared() -> None:
    failure = Failure(stage=Stage.MID_STREAM, ending=Ending.CLEAN, after=3)
    registries = with_models(StaticModel(id="m", content="a b c d e f g h", failure=failure))
    assert len(streamed(registries, "chat", request("chat", "m")).chunks) == 3


def test_a_failure_waits_for_the_models_delay() -> None:
    registries = with_models(StaticModel(id="m", delay=0.2, failure=Failure(status=504, pause=0.3)))
    outcome = asked(registries, "chat", request("chat", "m"))
    assert isinstance(outcome, Whole)
    assert outcome.delay == 0.5
    assert json.loads(outcome.body)["error"]["type"] == "timeout_error"


def test_overload_says_when_to_try_again(catalogue: Registries) -> None:
    def headers(id: str) -> Any:
        outcome = asked(catalogue, "chat", request("chat", id))
        assert isinstance(outcome, Whole)
        return dict(outcome.headers)

    assert headers("virtual-fail-429") == headers("virtual-fail-503") == {"retry-after": "1"}
    assert headers("virtual-fail-500") == {}


def statuses(model: SequenceModel, count: int) -> list[int]:
    registries = with_models(model)
    outcomes = [asked(registries, "responses", request("responses", model.id)) for _ in range(count)]
    return [outcome.status for outcome in outcomes if isinstance(outcome, Whole)]


STEPS = (Step(repeat=2), Step(status=429))


def test_the_demonstration_fails_every_third_time(catalogue: Registries) -> None:
    outcomes = [asked(catalogue, "chat", request("chat", "virtual-sequence-429")) for _ in range(6)]
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Whole)] == [200, 200, 429] * 2


@pytest.mark.parametrize(
    ("exhaustion", "then"),
    [(Exhaustion.LOOP, [200, 200, 429]), (Exhaustion.CLAMP, [429, 429, 429]), (Exhaustion.FAIL, [410, 410, 410])],
)
def test_a_used_up_sequence_goes_on_as_declared(exhaustion: Exhaustion, then: list[int]) -> None:
    assert statuses(SequenceModel(id="s", steps=STEPS, exhaustion=exhaustion), 6) == [200, 200, 429, *then]


def test_a_sequence_without_steps_always_succeeds() -> None:
    assert statuses(SequenceModel(id="s", content="well"), 3) == [200, 200, 200]


def test_a_step_says_its_own() -> None:
    steps = (Step(content="first"), Step(status=503, type="odd_error", message="not today"), Step(status=0))
    registries = with_models(SequenceModel(id="s", content="else", steps=steps))

    def next_one(status: int = 200) -> Any:
        return answered(registries, "messages", request("messages", "s"), status=status)

    assert next_one()["content"][0]["text"] == "first"
    assert next_one(503)["error"] == {"type": "odd_error", "message": "not today"}
    assert next_one()["content"][0]["text"] == "else"


def test_every_request_of_any_thread_takes_one_step() -> None:
    model = SequenceModel(id="s", steps=(Step(repeat=30), Step(status=429, repeat=10)))
    registries = with_models(model)
    seen: list[int] = []

    def ask() -> None:
        for _ in range(40):
            outcome = asked(registries, "chat", request("chat", "s"))
            assert isinstance(outcome, Whole)
            seen.append(outcome.status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (seen.count(200), seen.count(429)) == (120, 40)


def test_a_stream_takes_a_step_of_the_same_sequence() -> None:
    registries = with_models(SequenceModel(id="s", content="well", steps=(Step(), Step(status=429))))
    streamed(registries, "chat", request("chat", "s"))
    answered(registries, "responses", request("responses", "s", stream=True), status=429)


def test_usage_fixtures_tell_usage_in_every_stream() -> None:
    registries = Registries()
    register_usage_fixtures(registries)
    for model in registries.openai.list():
        assert b'"usage":{' in streamed(registries, "chat", request("chat", model.id)).closing


def test_the_documentation_lists_the_catalogue_as_it_is() -> None:
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", DOCS.read_text(), re.M)
    }
    expected = {}
    for model in failing_models():
        failure = model.failure
        assert failure is not None
        what = model.description.removesuffix(".")
        expected[model.id] = (what, failure.category, "yes" if failure.retryable else "no", failure.severity)
    assert {id: row for id, row in rows.items() if id.startswith("virtual-fail")} == expected
