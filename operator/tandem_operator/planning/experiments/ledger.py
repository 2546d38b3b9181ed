"""What routers have reported of an experiment, merged: in any order, as often as one likes, over restarts.

A router's report only ever grows, and another start of a router is another incarnation: so the greatest counts of each
incarnation are what it counted, and their sum is what all of them counted. What an incarnation that is gone had
reported stays. A sticky key's first outcome, and its first bad event, are settled here, over all routers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tandem_api.experiments import ArmCounts, ExperimentReport, MetricReport, Rule, ShareReport, on_challenger, sampled

from tandem_operator.planning.experiments.betting import Margin
from tandem_operator.planning.experiments.deciding import Question
from tandem_operator.planning.experiments.evidence import Arm, Evidence, Tally

KEYS: Final = 8192
"""Entries of sticky keys that fit into a ConfigMap beside the rest: some 400 KiB."""

Ledger = tuple[ExperimentReport, ...]
"""One report for each incarnation, by its name."""


def merge(ledger: Iterable[ExperimentReport], reports: Iterable[ExperimentReport]) -> Ledger:
    """What is known from both. All of them have to be of one experiment."""
    found: dict[str, ExperimentReport] = {}
    for report in (*ledger, *reports):
        known = found.get(report.incarnation)
        found[report.incarnation] = report if known is None or known == report else _both(known, report)
    return tuple(found[name] for name in sorted(found))


def bounded(ledger: Ledger, keys: int = KEYS) -> Ledger:
    """The same with so few sticky keys that it can be kept: fewer of them say less, and nothing wrong."""
    sampling = max((report.sampling for report in ledger), default=0)
    while _keys(ledger) > keys:
        sampling += 1
        ledger = tuple(_sampled(report, sampling) for report in ledger)
    return ledger


def requests(ledger: Ledger, arm: Arm, weight: int | None = None) -> int:
    """Requests of a version; those under one share where `weight` is given."""
    return sum(
        share.champion if arm == "champion" else share.challenger
        for report in ledger
        for share in report.shares
        if weight is None or share.weight == weight
    )


def questions(ledger: Ledger, rules: Iterable[Rule]) -> dict[str, Question]:
    """What the bets are about, by the rules' names."""
    return {
        rule.name: Question(
            Margin(rule.mean_absolute, rule.mean_relative), evidence(ledger, rule.name, events=rule.metric != "score")
        )
        for rule in rules
    }


def evidence(ledger: Ledger, name: str, *, events: bool = True) -> Evidence:
    """All that is known about one metric.

    Args:
        ledger: What was counted.
        name: The rule's.
        events: An outcome is good or bad: then each key's first bad one says more. Of scores, many lie between.
    """
    sampling = max((report.sampling for report in ledger), default=0)
    outcomes: dict[tuple[int, Arm], Counter[float]] = {}
    bad_events: dict[tuple[int, Arm], Counter[float]] = {}
    first: dict[str, tuple[float, int, float]] = {}
    bad: dict[str, tuple[float, int]] = {}
    sticky = False
    for share, metric in _metrics(ledger, name):
        sticky = sticky or bool(metric.first)
        for arm, counts in _arms(metric.single):
            outcomes.setdefault((share.weight, arm), Counter()).update(counts)
            bad_events.setdefault((share.weight, arm), Counter()).update({1.0: counts.get(1.0, 0)})
        for key, (time, value) in metric.first.items():
            first[key] = min(first.get(key, (time, share.weight, value)), (time, share.weight, value))
        for key, time in metric.bad.items():
            bad[key] = min(bad.get(key, (time, share.weight)), (time, share.weight))
    for key, (_, weight, value) in first.items():
        if sampled(key, sampling):
            outcomes.setdefault((weight, _arm(key, weight)), Counter())[value] += 1
    for key, (_, weight) in bad.items():
        if sampled(key, sampling):
            bad_events.setdefault((weight, _arm(key, weight)), Counter())[1.0] += 1
    return Evidence(_tallies(outcomes), _tallies(bad_events) if sticky and events else None)


def _both(one: ExperimentReport, other: ExperimentReport) -> ExperimentReport:
    """Two reports of one incarnation: the later of them, whichever it is."""
    shares: dict[int, ShareReport] = {share.weight: share for share in one.shares}
    for share in other.shares:
        shares[share.weight] = _share(shares[share.weight], share) if share.weight in shares else share
    return ExperimentReport(
        id=one.id,
        incarnation=one.incarnation,
        sampling=max(one.sampling, other.sampling),
        shares=tuple(shares[weight] for weight in sorted(shares)),
    )


def _share(one: ShareReport, other: ShareReport) -> ShareReport:
    metrics: dict[str, MetricReport] = {metric.name: metric for metric in one.metrics}
    for metric in other.metrics:
        metrics[metric.name] = _metric(metrics[metric.name], metric) if metric.name in metrics else metric
    return ShareReport(
        weight=one.weight,
        champion=max(one.champion, other.champion),
        challenger=max(one.challenger, other.challenger),
        metrics=tuple(metrics[name] for name in sorted(metrics)),
    )


def _metric(one: MetricReport, other: MetricReport) -> MetricReport:
    keys, bad_keys = one.first.keys() | other.first.keys(), one.bad.keys() | other.bad.keys()
    return MetricReport(
        name=one.name,
        single=ArmCounts(
            champion=_greatest(one.single.champion, other.single.champion),
            challenger=_greatest(one.single.challenger, other.single.challenger),
        ),
        first={key: min(side.first[key] for side in (one, other) if key in side.first) for key in sorted(keys)},
        bad={key: min(side.bad[key] for side in (one, other) if key in side.bad) for key in sorted(bad_keys)},
    )


def _keys(ledger: Ledger) -> int:
    return sum(
        len(metric.first) + len(metric.bad) for report in ledger for share in report.shares for metric in share.metrics
    )


def _sampled(report: ExperimentReport, sampling: int) -> ExperimentReport:
    def kept(metric: MetricReport) -> MetricReport:
        first = {key: known for key, known in metric.first.items() if sampled(key, sampling)}
        bad = {key: known for key, known in metric.bad.items() if sampled(key, sampling)}
        return metric.model_copy(update={"first": first, "bad": bad})

    shares = tuple(
        share.model_copy(update={"metrics": tuple(kept(metric) for metric in share.metrics)}) for share in report.shares
    )
    return report.model_copy(update={"sampling": sampling, "shares": shares})


def _greatest(one: Mapping[float, int], other: Mapping[float, int]) -> dict[float, int]:
    return dict(sorted((Counter(one) | Counter(other)).items()))


def _metrics(ledger: Ledger, name: str) -> Iterator[tuple[ShareReport, MetricReport]]:
    for report in ledger:
        for share in report.shares:
            if 0 < share.weight < 100:
                yield from ((share, metric) for metric in share.metrics if metric.name == name)


def _arms(counts: ArmCounts) -> tuple[tuple[Arm, Mapping[float, int]], ...]:
    return ("champion", counts.champion), ("challenger", counts.challenger)


def _arm(key: str, weight: int) -> Arm:
    return "challenger" if on_challenger(key, weight) else "champion"


def _tallies(counts: Mapping[tuple[int, Arm], Mapping[float, int]]) -> tuple[Tally, ...]:
    weights = sorted({weight for weight, _ in counts})
    return tuple(
        Tally(weight / 100, counts.get((weight, "champion"), {}), counts.get((weight, "challenger"), {}))
        for weight in weights
    )
