import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_virtual.delaying import DelayProvider, DelaySpec, delay
from tandem_virtual.outcomes import Streamed, Whole, stream_of

from tests.api.sdks import events_of

SPEC = DelaySpec(min_first_token_ms=30, max_first_token_ms=60, min_end_ms=200, max_end_ms=400, seed=7)


def outcome(body: Any, request: int = 0) -> Any:
    provider = DelayProvider(SPEC)
    return provider.answer(json.dumps(body).encode(), provider.random(request), "k", 5)


@given(st.integers(-5, 50), st.integers(-5, 50), st.integers())
def test_a_delay_is_drawn_as_the_rule_says(low: int, high: int, seed: int) -> None:
    drawn = delay(low, high, Random(seed)) * 1000
    if low <= 0 and high <= 0:
        assert drawn == 0
    elif low >= high:
        assert drawn == pytest.approx(low)
    else:
        assert max(low, 0) - 1e-9 <= drawn <= high + 1e-9


def test_both_bounds_can_be_drawn() -> None:
    assert {delay(1, 3, Random(seed)) for seed in range(40)} == {0.001, 0.002, 0.003}


def test_the_defaults_are_those_of_the_provider() -> None:
    spec = DelaySpec()
    assert (spec.min_first_token_ms, spec.max_first_token_ms) == (50, 500)
    assert (spec.min_end_ms, spec.max_end_ms) == (100, 1000)


async def test_a_stream_waits_before_its_first_event_and_before_its_end() -> None:
    stream = outcome({"model": "m", "stream": True, "messages": []})
    assert isinstance(stream, Streamed)
    heard: list[Any] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            heard.append(seconds)

    async for chunk in stream_of(stream, sleep):
        heard += [data for _, data in events_of(chunk)]
    first, role, one, two, three, stop, end, done = heard
    assert 0.03 <= first <= 0.06
    assert 0.2 <= end <= 0.4
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in (one, two, three)]
    assert texts == ["I am ", "testing ", "and random sleep"]
    assert (stop["choices"][0]["delta"], stop["choices"][0]["finish_reason"]) == ({}, "stop")
    assert stop["usage"] == {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    assert done == "[DONE]"
    assert {(chunk["id"], chunk["model"]) for chunk in (role, one, stop)} == {("chatcmpl-delay-k", "m")}


def test_a_whole_answer_has_only_the_first_delay() -> None:
    whole = outcome({"messages": []})
    assert isinstance(whole, Whole)
    assert 0.03 <= whole.delay <= 0.06
    body = json.loads(whole.body)
    assert body["choices"][0]["message"]["content"] == "I am testing and random sleep"
    assert (body["model"], body["usage"]["total_tokens"]) == ("delay-model", 17)


def test_a_seed_draws_the_same_delays_request_by_request() -> None:
    drawn = [outcome({}, request).delay for request in (0, 1, 2, 3)]
    assert drawn == [outcome({}, request).delay for request in (0, 1, 2, 3)]
    assert len(set(drawn)) > 1


def test_a_body_that_cant_be_read_is_a_400() -> None:
    refused = DelayProvider(SPEC).answer(b"{", Random(0), "k", 0)
    assert isinstance(refused, Whole)
    assert refused.status == 400
