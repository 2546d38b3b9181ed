"""Verdicts are seldom wrong, and come soon: `make bench-experiments` in seconds.

The bounds are binomial: with so many runs, a test that keeps to its alpha goes beyond them once in a thousand.
"""

import pytest

from bench.experiments.scenarios import ERRORS, TTFT, WORSE, bound, false_verdicts, falsely, fixed_size, repeat
from bench.experiments.watching import crossing, log_e_path
from bench.experiments.worlds import EQUAL, FEW, RAMP, STEADY, STICKY, STICKY_RAMP

RUNS = 60


@pytest.mark.parametrize("world", [STEADY, FEW, RAMP, STICKY, STICKY_RAMP], ids=lambda world: world.name)
def test_verdicts_are_wrong_in_at_most_alpha_of_the_runs(world):
    results = list(false_verdicts([world], RUNS))
    assert len(results) == 16
    for result in results:
        assert result.rate <= bound(RUNS), result


@pytest.mark.parametrize(("name", "question", "effect"), WORSE[:2], ids=[name for name, _, _ in WORSE[:2]])
def test_what_is_worse_is_found_within_three_times_the_fixed_sample(name, question, effect):
    (result,) = repeat(STEADY, name, lambda run: falsely(STEADY, effect, [question], ["harm"], run), RUNS)
    assert result.within(3 * fixed_size(question, effect)) >= 0.8


def test_counting_every_request_of_sticky_users_would_be_wrong_far_too_often():
    """The trap: were it not one, these simulations could not find a broken test."""

    def every_request(run):
        import numpy as np

        requests = STICKY.draw(EQUAL, np.random.default_rng(run))
        return {(TTFT.name, "harm"): crossing(log_e_path(requests, TTFT, "harm", by_key=False), 20)}

    (result,) = repeat(STICKY, "equal", every_request, RUNS)
    assert result.rate > bound(RUNS)


def test_the_binomial_bound_is_above_alpha_and_tightens():
    assert 0.05 < bound(10_000) < bound(1000) < bound(100) < 0.2
    assert bound(10_000) == pytest.approx(0.0568, abs=0.0005)


def test_two_percent_against_one_needs_a_fixed_sample_of_the_textbooks_size():
    assert fixed_size(ERRORS, WORSE[1][2]) == pytest.approx(3654, rel=0.05)
