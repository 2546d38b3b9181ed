"""Figures follow from samples by plain arithmetic."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_cli.benchmark.figures import Slo, distribution, figures
from tandem_cli.benchmark.samples import Sample


def sample(due: float, first: float, step: float, tokens: int, error: str = "") -> Sample:
    moments = tuple(due + first + step * index for index in range(tokens))
    return Sample(due=due, sent=due, end=moments[-1], moments=moments, output_tokens=tokens, error=error)


def test_a_recorded_answer_has_exactly_its_latencies():
    one = sample(due=2.0, first=0.5, step=0.25, tokens=5)
    assert (one.ttft, one.itl, one.tpot, one.latency) == (0.5, (0.25,) * 4, 0.25, 1.5)


def test_latencies_count_from_when_a_request_was_due_and_not_from_when_it_was_sent():
    late = Sample(due=1.0, sent=4.0, end=5.0, moments=(4.5,), output_tokens=1)
    found = figures([late])
    assert late.ttft == 3.5
    assert late.latency == 4.0
    assert found.lag is not None
    assert found.lag.max == 3.0


def test_tpot_counts_tokens_where_events_carry_several():
    bundled = Sample(due=0.0, sent=0.0, end=1.0, moments=(0.2, 0.6, 1.0), output_tokens=9)
    assert bundled.tpot == pytest.approx(0.8 / 8)


def test_an_answer_of_one_token_has_no_tpot():
    assert sample(0.0, 0.1, 0.0, 1).tpot is None


def test_rates_are_by_the_wall_clock_and_not_by_summed_latencies():
    # Ten at once, each of one second: ten per second, which summed latencies would call one.
    found = figures([sample(0.0, 0.5, 0.5, 2) for _ in range(10)])
    assert (found.seconds, found.request_rate, found.output_token_rate) == (1.0, 10.0, 20.0)


def test_failures_are_counted_by_kind_and_have_no_latencies():
    good, bad, worse = (sample(0.0, 0.1, 0.1, 2), sample(0.0, 9.0, 9.0, 2, "status 429"), sample(0, 9, 9, 2, "timeout"))
    found = figures([bad, good, bad, worse])
    assert found.errors == {"status 429": 2, "timeout": 1}
    assert found.ttft is not None
    assert (found.requests, found.succeeded, found.ttft.max) == (4, 1, 0.1)


def test_goodput_counts_the_requests_that_keep_all_bounds():
    kept, late_first, slow = sample(0, 0.4, 0.04, 11), sample(0, 0.6, 0.04, 11), sample(0, 0.4, 0.06, 11)
    failed = sample(0, 0.4, 0.04, 11, "cut stream")
    found = figures([kept, late_first, slow, failed], Slo(ttft=0.5, tpot=0.05))
    assert found.good == 1
    assert found.goodput == pytest.approx(1 / found.seconds)


def test_nothing_measured_is_no_division_by_zero():
    found = figures([])
    assert (found.requests, found.request_rate, found.ttft, found.goodput) == (0, 0.0, None, None)


def test_percentiles_interpolate_as_numpy_does():
    found = distribution([float(value) for value in range(1, 11)])
    assert found is not None
    assert [found.p50, found.p90, found.p95, found.p99] == pytest.approx([5.5, 9.1, 9.55, 9.91])


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_ordered_and_within_the_values(values: list[float]):
    found = distribution(values)
    assert found is not None
    ordered = [found.min, found.p50, found.p90, found.p95, found.p99, found.max]
    assert all(lower <= upper or math.isclose(lower, upper) for lower, upper in itertools.pairwise(ordered))
    assert (found.min, found.max) == (min(values), max(values))
