"""What a router counts of an experiment: its own share of the evidence, which only ever grows.

A request counts where both versions could have served it: one that came to the champion because the challenger was
down says nothing about their difference. Requests with a sticky key count by that key (its first outcome, and its first
bad one), the others each for itself.

A score comes later, perhaps to another router, and perhaps twice. So it always counts by what the request was drawn by,
as its response id tells: whoever merges the reports takes each only once.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tandem_api.experiments import ArmCounts, ExperimentReport, MetricReport, Rule, ShareReport, sampled

from tandem_router.experiments.quantiles import RunningQuantile

KEYS: Final = 8192
"""Entries of keys that a router keeps and reports; beyond them it keeps every other key."""
PAIRED: Final = 50
"""The share under which copied requests count, in percent."""
SCORE_DIGITS: Final = 3
"""To which scores count."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a request. None: that can't be told."""

    error: bool | None = None
    ttft: float | None = None
    """Seconds."""
    tpot: float | None = None
    """Seconds a token, after the first."""
    tokens: int | None = None

    def value(self, rule: Rule) -> float | None:
        """What a rule looks at."""
        match rule.metric:
            case "errorRate":
                return None if self.error is None else float(self.error)
            case "ttft":
                return self.ttft
            case "tpot":
                return self.tpot
            case "tokens":
                return self.tokens
            case "score":
                return None


@dataclass(slots=True)
class _Tally:
    """Of one rule under one share."""

    champion: Counter[float] = field(default_factory=Counter)
    challenger: Counter[float] = field(default_factory=Counter)
    first: dict[str, tuple[float, float]] = field(default_factory=dict)
    bad: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Share:
    """Of one share."""

    rules: Sequence[_Tally]
    champion: int = 0
    challenger: int = 0


class Counting:
    """One experiment, as this router sees it."""

    def __init__(
        self, id: str, rules: Sequence[Rule], incarnation: str, now: Callable[[], float], keys: int = KEYS
    ) -> None:
        """`incarnation` is another for each start of the router; `now` gives Unix seconds."""
        self.id = id
        self._rules = tuple(rules)
        self._incarnation = incarnation
        self._now = now
        self._keys = keys
        self._entries = 0
        self._sampling = 0
        self._shares: dict[int, _Share] = {}
        self._bars = [RunningQuantile(rule.quantile) if rule.quantile else None for rule in self._rules]
        self._report: ExperimentReport | None = None
        self.scored = any(rule.metric == "score" for rule in self._rules)
        """Scores decide."""

    def count(self, weight: int, challenger: bool, key: int | None, seen: Seen) -> None:
        """A request that came while the challenger had `weight` percent.

        Args:
            weight: Above 0 and below 100.
            challenger: Which version served it.
            key: The split's hash of its sticky key; None: it had none.
            seen: What became of it.
        """
        share = self._share_of(weight)
        share.challenger += challenger
        share.champion += not challenger
        name = None if key is None else f"{key:016x}"
        for rule, tally, bar in zip(self._rules, share.rules, self._bars, strict=True):
            value = seen.value(rule)
            if value is None:
                continue
            outcome = _outcome(rule, value, challenger, bar)
            if bar is not None and not challenger:
                bar.add(value)
            if outcome is None:
                continue
            if name is None:
                (tally.challenger if challenger else tally.champion)[outcome] += 1
            elif sampled(name, self._sampling):
                self._count_key(tally, name, outcome)
                self._count_bad(tally, name, outcome)

    def pair(self, champion: Seen, challenger: Seen) -> None:
        """What the versions made of one request: the one of it, the other of a copy.

        It counts as if half of the requests went to each. The stakes stay fair: with b on harm, the pair pays
        (1 + 2b y)(1 - 2b x) for the outcomes y of the challenger and x of the champion, whose mean is at most 1 where
        that of y is at most that of x.
        """
        share = self._share_of(PAIRED)
        share.champion += 1
        share.challenger += 1
        for rule, tally, bar in zip(self._rules, share.rules, self._bars, strict=True):
            value, copied = champion.value(rule), challenger.value(rule)
            if value is None or copied is None:
                continue
            outcome, other = _outcome(rule, value, False, bar), _outcome(rule, copied, True, bar)
            if bar is not None:
                bar.add(value)
            if outcome is not None and other is not None:
                tally.champion[outcome] += 1
                tally.challenger[other] += 1

    def score(self, weight: int, key: str, score: float) -> None:
        """What somebody thinks of an answer.

        Args:
            weight: The challenger's percent when the request came.
            key: The split's hash of what it was drawn by; who answered follows from both.
            score: From 0 to 1, the best.
        """
        for rule, tally in zip(self._rules, self._share_of(weight).rules, strict=True):
            if rule.metric == "score" and sampled(key, self._sampling):
                self._count_key(tally, key, round(1 - score, SCORE_DIGITS))

    def report(self) -> ExperimentReport:
        """All of it, for whoever merges it with those of other routers."""
        if self._report is None:
            self._report = ExperimentReport(
                id=self.id,
                incarnation=self._incarnation,
                sampling=self._sampling,
                shares=tuple(self._share(weight, share) for weight, share in sorted(self._shares.items())),
            )
        return self._report

    def _count_key(self, tally: _Tally, key: str, outcome: float) -> None:
        if key not in tally.first:
            tally.first[key] = (self._now(), outcome)
            self._entries += 1
            self._fit()

    def _count_bad(self, tally: _Tally, key: str, outcome: float) -> None:
        if outcome and key not in tally.bad and sampled(key, self._sampling):
            tally.bad[key] = self._now()
            self._entries += 1
            self._fit()

    def _fit(self) -> None:
        while self._entries > self._keys:
            self._thin()

    def _share_of(self, weight: int) -> _Share:
        """To be added to."""
        self._report = None
        share = self._shares.get(weight)
        if share is None:
            share = self._shares[weight] = _Share([_Tally() for _ in self._rules])
        return share

    def _thin(self) -> None:
        self._sampling += 1
        self._entries = 0
        for share in self._shares.values():
            for tally in share.rules:
                tally.first = {key: known for key, known in tally.first.items() if sampled(key, self._sampling)}
                tally.bad = {key: known for key, known in tally.bad.items() if sampled(key, self._sampling)}
                self._entries += len(tally.first) + len(tally.bad)

    def _share(self, weight: int, share: _Share) -> ShareReport:
        return ShareReport(
            weight=weight,
            champion=share.champion,
            challenger=share.challenger,
            metrics=tuple(
                MetricReport(
                    name=rule.name,
                    single=ArmCounts(champion=dict(tally.champion), challenger=dict(tally.challenger)),
                    first=dict(tally.first),
                    bad=dict(tally.bad),
                )
                for rule, tally in zip(self._rules, share.rules, strict=True)
            ),
        )


def _outcome(rule: Rule, value: float, challenger: bool, bar: RunningQuantile | None) -> float | None:
    """From 0 (good) to 1 (bad); None while there is no bar to hold the value against."""
    if rule.metric == "errorRate":
        return value
    limit = bar.bar if bar is not None else rule.threshold
    if limit is None:
        return None
    return float((rule.scaled(value) if challenger else value) > limit)
