"""What a router counts of an experiment, and how it says so."""

import random

from hypothesis import given
from hypothesis import strategies as st
from tandem_api.experiments import ArmCounts, on_challenger, rules, sampled
from tandem_api.inference_service.experiment import Criterion
from tandem_router.experiments.counting import Counting, Seen
from tandem_router.experiments.quantiles import FIRST
from tandem_router.scheduling.split import Share, choose, fnv1a_64

ERRORS = Criterion(metric="errorRate")
TTFT = Criterion(metric="ttft", tolerate={"relative": "10%"})


def counting(*criteria, keys=100):
    return Counting("e", rules(criteria), "router-0 1", lambda: 5.0, keys)


def only(made):
    (share,) = made.report().shares
    return share


def test_requests_without_a_key_count_each():
    made = counting(ERRORS)
    for challenger, error in ((False, False), (False, True), (True, True), (True, True)):
        made.count(10, challenger, None, Seen(error=error))
    share = only(made)
    assert (share.weight, share.champion, share.challenger) == (10, 2, 2)
    assert share.metrics[0].single == ArmCounts(champion={0.0: 1, 1.0: 1}, challenger={1.0: 2})


def test_a_key_counts_by_its_first_outcome_and_its_first_bad_one():
    made = counting(ERRORS)
    for error in (False, True, True):
        made.count(10, True, 7, Seen(error=error))
    (metric,) = only(made).metrics
    assert metric.first == {"0000000000000007": (5.0, 0.0)}
    assert metric.bad == {"0000000000000007": 5.0}
    assert metric.single == ArmCounts()


def test_shares_are_counted_apart():
    made = counting(ERRORS)
    made.count(10, True, None, Seen(error=False))
    made.count(50, True, None, Seen(error=False))
    assert [share.weight for share in made.report().shares] == [10, 50]


def test_nothing_is_slow_before_the_champion_is_known_and_then_by_its_quantile():
    made = counting(TTFT)
    made.count(50, True, None, Seen(ttft=9.0))
    for _ in range(FIRST):
        made.count(50, False, None, Seen(ttft=1.0))
    for ttft in (1.05, 1.2):  # 10 % are tolerated of the challenger, and none of the champion
        made.count(50, True, None, Seen(ttft=ttft))
        made.count(50, False, None, Seen(ttft=ttft))
    assert only(made).metrics[0].single == ArmCounts(champion={1.0: 2}, challenger={0.0: 1, 1.0: 1})


def test_a_threshold_needs_no_past():
    made = counting(Criterion(metric="tpot", threshold="50ms"))
    for tpot in (0.04, 0.06):
        made.count(50, False, None, Seen(tpot=tpot))
    assert only(made).metrics[0].single == ArmCounts(champion={0.0: 1, 1.0: 1})


def test_what_can_not_be_told_is_no_outcome():
    made = counting(ERRORS, TTFT)
    made.count(50, True, None, Seen())
    assert [metric.single for metric in only(made).metrics] == [ArmCounts(), ArmCounts()]


def test_a_report_only_grows():
    made = counting(ERRORS)
    made.count(10, True, None, Seen(error=False))
    before = made.report()
    assert made.report() is before
    made.count(10, True, None, Seen(error=False))
    assert only(made).challenger == 2
    assert before.shares[0].challenger == 1


def test_so_many_keys_are_kept_and_the_same_ones_by_every_router():
    made = counting(ERRORS, keys=50)
    generator = random.Random(3)
    keys = [generator.randrange(2**64) for _ in range(1000)]
    for key in keys:
        made.count(10, True, key, Seen(error=False))
    told = made.report()
    kept = told.shares[0].metrics[0].first
    assert 10 <= len(kept) <= 50
    assert set(kept) == {name for key in keys if sampled(name := f"{key:016x}", told.sampling)}
    assert told.shares[0].challenger == 1000


@given(st.text(min_size=1, max_size=20), st.integers(1, 99))
def test_whose_key_it_is_follows_from_its_hash(key, weight):
    shares = (Share("v1", 100 - weight), Share("v2", weight))
    served = choose(shares, key, lambda name: True, salt="e")
    hashed = f"{fnv1a_64(('e' + key).encode('utf-8', 'surrogatepass')):016x}"
    assert (served == "v2") == on_challenger(hashed, weight)
