"""The bets that decide experiments: fair where they must be, quick where there is something to find."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_operator.planning.experiments.betting import RATIOS, Margin, bet, difference, log_e, log_stakes
from tandem_operator.planning.experiments.evidence import Evidence, Tally, merged

SHARES = st.floats(0.01, 0.99)
MARGINS = st.builds(Margin, st.floats(0, 0.5), st.floats(0, 1))
EITHER_WAY = st.sampled_from([*RATIOS, *(1 / ratio for ratio in RATIOS)])


def binary(share: float, champion: tuple[int, int], challenger: tuple[int, int]) -> Tally:
    """From requests and bad ones of each."""
    (n, bad), (m, worse) = champion, challenger
    return Tally(share, {0.0: n - bad, 1.0: bad}, {0.0: m - worse, 1.0: worse})


@given(EITHER_WAY, SHARES, MARGINS, st.floats(0, 1), st.floats(0, 1))
def test_no_outcome_can_lose_the_whole_stake(ratio, share, margin, champion, challenger):
    for tally in (Tally(share, {champion: 1}), Tally(share, {}, {challenger: 1})):
        assert all(math.isfinite(log) for log in log_stakes([tally], margin, [ratio]))


@given(EITHER_WAY, SHARES, MARGINS, st.floats(0, 1))
def test_at_the_edge_of_the_margin_no_bet_gains_on_average(ratio, share, margin, rate):
    """The challenger's rate is the margin's edge: bets on either side are at fair odds there."""
    worse = (1 + margin.relative) * rate + margin.absolute
    if worse > 1:
        return
    b = bet(ratio, share, margin)
    gains = {
        True: b * (worse - margin.absolute) / share,
        False: -b * (1 + margin.relative) * rate / (1 - share),
    }
    assert share * gains[True] + (1 - share) * gains[False] == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5]), st.booleans(), st.sampled_from([0.0, 0.25, 1.0])), max_size=30))
def test_neither_order_nor_the_number_of_routers_matters(outcomes):
    def tally(share: float, challenger: bool, value: float) -> Tally:
        return Tally(share, {} if challenger else {value: 1}, {value: 1} if challenger else {})

    one_by_one = [tally(*outcome) for outcome in outcomes]
    whole = Evidence(merged(one_by_one))
    turned = Evidence(merged(reversed(one_by_one)))
    for direction in ("harm", "benefit"):
        value = log_e(Evidence(tuple(one_by_one)), Margin(0.01), direction)
        assert log_e(whole, Margin(0.01), direction) == pytest.approx(value)
        assert log_e(turned, Margin(0.01), direction) == pytest.approx(value)


def test_twice_the_errors_are_harm_and_no_benefit():
    evidence = Evidence((binary(0.5, (5000, 50), (5000, 100)),))
    assert log_e(evidence, Margin(), "harm") > math.log(20)
    assert log_e(evidence, Margin(), "benefit") < 0


def test_equal_versions_show_benefit_within_a_margin_and_no_harm():
    evidence = Evidence((binary(0.5, (20_000, 20), (20_000, 20)),))
    assert log_e(evidence, Margin(absolute=0.005), "benefit") > math.log(20)
    assert log_e(evidence, Margin(absolute=0.005), "harm") < 0


def test_a_load_that_moves_together_with_the_share_is_no_difference():
    """All is bad at 50 %, all is well at 1 %: in one pot, the challenger would look ten times as bad."""
    quiet, busy = binary(0.01, (99_000, 99), (1000, 1)), binary(0.5, (1000, 100), (1000, 100))
    assert abs(log_e(Evidence((quiet, busy)), Margin(), "harm")) < math.log(20)


def test_bad_events_of_users_show_harm_that_their_first_requests_do_not():
    few = binary(0.5, (150, 6), (150, 9))
    events = Tally(0.5, {1.0: 20}, {1.0: 60})
    assert log_e(Evidence((few,)), Margin(), "harm") < math.log(20)
    assert log_e(Evidence((few,), (events,)), Margin(), "harm") > math.log(20)


def test_the_interval_contains_what_is_and_shrinks():
    sizes: Sequence[int] = (500, 5000, 50_000)
    bounds = [difference(Evidence((binary(0.5, (n, n // 50), (n, n // 25)),)), 0.05) for n in sizes]
    assert all(low <= 0.02 <= high for low, high in bounds)
    widths = [high - low for low, high in bounds]
    assert widths == sorted(widths, reverse=True)
    assert bounds[-1][0] > 0


def test_before_any_outcome_nothing_is_known():
    assert log_e(Evidence(), Margin(), "harm") == 0
    assert difference(Evidence(), 0.05) == (-1.0, 1.0)
