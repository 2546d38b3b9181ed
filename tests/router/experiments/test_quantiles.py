"""The bar that tells slow requests: the champion's own, and of the past alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_router.experiments.quantiles import BLOCKS, EVERY, FIRST, RunningQuantile, nearest_rank


def after(values, quantile=0.95):
    running = RunningQuantile(quantile)
    for value in values:
        running.add(value)
    return running.bar


def test_there_is_no_bar_before_enough_is_known():
    assert after(range(FIRST - 1)) is None
    assert after(range(FIRST)) == 189  # 95 % of 200 values are 190


def test_the_bar_stands_still_between_recomputations():
    assert after([1.0] * FIRST + [9.0] * (EVERY - 1)) == 1.0
    assert after([1.0] * FIRST + [9.0] * EVERY) == 9.0


def test_old_values_are_forgotten():
    assert after([1000.0] * FIRST + [1.0] * EVERY * (BLOCKS - 1), 0.999) == 1000.0
    assert after([1000.0] * FIRST + [1.0] * EVERY * BLOCKS, 0.999) == 1.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_the_quantile_is_the_smallest_value_that_enough_are_not_above(values, quantile):
    found = nearest_rank(sorted(values), quantile)
    assert sum(value <= found for value in values) >= quantile * len(values) - 1e-9
    below = [value for value in values if value < found]
    assert len(below) < quantile * len(values)
    assert not math.isnan(found)


@pytest.mark.parametrize("quantile", [0.0, 1.0, 95.0])
def test_what_is_no_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        RunningQuantile(quantile)
