"""What routers report, merged: any order, any number of times, each sticky key once."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.experiments import (
    ArmCounts,
    ExperimentReport,
    MetricReport,
    ShareReport,
    on_challenger,
    rules,
    sampled,
)
from tandem_api.inference_service.experiment import Criterion
from tandem_operator.planning.experiments.deciding import decide
from tandem_operator.planning.experiments.ledger import bounded, evidence, merge, questions, requests

KEYS = st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}")
COUNTS = st.dictionaries(st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 9))


def grown(steps):
    """The reports of one router, of which each is at least the one before."""
    reports, champion, challenger, first, bad = [], {}, {}, {}, {}
    for time, (one, other, keys) in enumerate(steps):
        for counts, more in ((champion, one), (challenger, other)):
            for value, times in more.items():
                counts[value] = counts.get(value, 0) + times
        for key in keys:
            first.setdefault(key, (float(time), float(len(key) % 2)))
            bad.setdefault(key, float(time))
        metric = MetricReport(
            name="errorRate",
            single=ArmCounts(champion=dict(champion), challenger=dict(challenger)),
            first=dict(first),
            bad=dict(bad),
        )
        share = ShareReport(weight=10, champion=sum(champion.values()), metrics=(metric,))
        reports.append(share)
    return reports


STEPS = st.lists(st.tuples(COUNTS, COUNTS, st.lists(KEYS, max_size=3)), min_size=1, max_size=4)


def told(router, share):
    return ExperimentReport(id="e", incarnation=router, shares=(share,))


@given(st.lists(STEPS, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(routers, order: random.Random):
    everything = [told(f"router-{i}", share) for i, steps in enumerate(routers) for share in grown(steps)]
    last = merge((), [told(f"router-{i}", grown(steps)[-1]) for i, steps in enumerate(routers)])
    shuffled = [*everything, *everything]
    order.shuffle(shuffled)
    ledger = ()
    for one in shuffled:
        ledger = merge(ledger, [one])
    assert evidence(ledger, "errorRate") == evidence(last, "errorRate")
    assert requests(ledger, "champion") == requests(last, "champion")


def counted(key, router, first=None, bad=None):
    return ExperimentReport(
        id="e",
        incarnation=router,
        shares=(
            ShareReport(
                weight=50,
                metrics=(
                    MetricReport(
                        name="errorRate",
                        first={key: first} if first else {},
                        bad={key: bad} if bad is not None else {},
                    ),
                ),
            ),
        ),
    )


@given(KEYS)
def test_a_key_counts_once_over_all_routers_by_its_first_outcome(key):
    ledger = merge((), [counted(key, "a", (5.0, 1.0), 5.0), counted(key, "b", (3.0, 0.0), 7.0)])
    found = evidence(ledger, "errorRate")
    arm = "challenger" if on_challenger(key, 50) else "champion"
    assert found.first_bad is not None
    assert [dict(tally.of(arm)) for tally in found.outcomes] == [{0.0: 1}]
    assert [dict(tally.of(arm)) for tally in found.first_bad] == [{1.0: 1}]


def test_what_a_router_counted_outlives_its_restart():
    before = ExperimentReport(id="e", incarnation="router-0 1", shares=(ShareReport(weight=5, challenger=7),))
    after = ExperimentReport(id="e", incarnation="router-0 2", shares=(ShareReport(weight=5, challenger=2),))
    assert requests(merge(merge((), [before]), [after]), "challenger") == 9


def test_requests_are_told_apart_by_share():
    ledger = merge((), [told("a", ShareReport(weight=1, challenger=3)), told("b", ShareReport(weight=5, challenger=4))])
    assert requests(ledger, "challenger", 5) == 4


def test_so_many_keys_are_kept_as_fit_and_the_same_ones_by_everybody():
    generator = random.Random(1)
    numbers = [generator.randrange(2**64) for _ in range(400)]
    keys = {f"{number:016x}": (float(number), 0.0) for number in numbers}
    report = ExperimentReport(
        id="e", incarnation="a", shares=(ShareReport(weight=50, metrics=(MetricReport(name="errorRate", first=keys),)),)
    )
    (kept,) = bounded((report,), 100)
    left = kept.shares[0].metrics[0].first
    assert 20 <= len(left) <= 100
    assert left == {key: known for key, known in keys.items() if sampled(key, kept.sampling)}
    # A report with keys that were given up adds none of them.
    found = evidence(merge((kept,), [report.model_copy(update={"incarnation": "b"})]), "errorRate")
    assert found.count("champion") + found.count("challenger") == len(left)


def test_the_share_of_keys_is_the_challengers():
    generator = random.Random(2)
    keys = [f"{generator.randrange(2**64):016x}" for _ in range(4000)]
    assert 150 < sum(on_challenger(key, 5) for key in keys) < 250
    assert not any(on_challenger(key, 0) for key in keys)
    assert all(on_challenger(key, 100) for key in keys)


def scored(weight: int, champion: float, challenger: float, keys: int) -> ExperimentReport:
    """Scores of answers, as outcomes, by what each was drawn by."""
    first = {}
    for number in range(keys):
        key = f"{number:016x}"
        first[key] = (float(number), challenger if on_challenger(key, weight) else champion)
    metric = MetricReport(name="score", first=first)
    return ExperimentReport(id="e", incarnation="r", shares=(ShareReport(weight=weight, metrics=(metric,)),))


@pytest.mark.parametrize(("challenger", "verdict"), [(0.35, "harm"), (0.1, "open"), (0.02, "benefit")])
def test_scores_decide_by_their_mean_and_not_by_who_is_not_perfect(challenger: float, verdict: str) -> None:
    asked = questions((scored(50, 0.1, challenger, 4000),), rules([Criterion(metric="score")]))
    assert asked["score"].evidence.first_bad is None
    assert decide(asked, 0.05).verdict == verdict
