"""What an experiment counts: how a criterion judges a request, and what routers report of it.

Routers hold each request against a criterion and count; the operator merges what they report and decides. Both take the
meaning of a criterion from here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from tandem_api.inference_service.base import Spec
from tandem_api.inference_service.experiment import QUANTILE, Criterion
from tandem_api.inference_service.quantities import parse_duration

Metric = Literal["errorRate", "ttft", "tpot", "tokens", "score"]

_MEDIAN: Final = 0.5
"""Of lengths."""
_COMPARED: Final = tuple(Criterion(metric=metric) for metric in ("errorRate", "ttft", "tpot", "tokens"))


@dataclass(frozen=True, slots=True)
class Rule:
    """How a request becomes an outcome from 0 (good) to 1 (bad), and by how much outcomes may differ.

    A margin stands where it applies: on the challenger's value before it is compared, or on the mean outcome.
    """

    name: str
    """Unique within the experiment: "ttft p95", "errorRate"."""
    metric: Metric
    quantile: float | None = None
    """Bad is what is above the champion's running quantile."""
    threshold: float | None = None
    """Bad is what is above this many seconds."""
    value_absolute: float = 0.0
    """Taken from the challenger's value first, in seconds or tokens."""
    value_relative: float = 0.0
    """The challenger's value is divided by 1 + this first."""
    mean_absolute: float = 0.0
    """By how much the challenger's mean outcome may be above the champion's."""
    mean_relative: float = 0.0
    """The same, as a share of the champion's; below 0, beside `mean_absolute`, for scores, where more is better."""

    def scaled(self, value: float) -> float:
        """A challenger's value, as it is compared."""
        return (value - self.value_absolute) / (1 + self.value_relative)


def rules(criteria: Sequence[Criterion]) -> tuple[Rule, ...]:
    """In the order of the manifest, which has seen to it that margins are in their metric's unit.

    Without any, as a shadow may be, all is compared that needs no one's opinion.
    """
    return tuple(rule_of(criterion) for criterion in criteria or _COMPARED)


def rule_of(criterion: Criterion) -> Rule:
    """What a criterion means."""
    relative = _share(criterion.tolerate.relative)
    absolute = criterion.tolerate.absolute
    match criterion.metric:
        case "errorRate":
            return Rule("errorRate", "errorRate", mean_absolute=_share(absolute), mean_relative=relative)
        case "score":
            # An outcome is 1 - score: (1 - relative) times the champion's score is the least that is allowed.
            return Rule("score", "score", mean_absolute=_share(absolute) or relative, mean_relative=-relative)
        case "tokens":
            return Rule("tokens", "tokens", _MEDIAN, value_absolute=float(absolute or 0), value_relative=relative)
        case "ttft" | "tpot":
            return _latency(criterion, absolute, relative)


def _latency(criterion: Criterion, absolute: str | None, relative: float) -> Rule:
    metric = criterion.metric
    if criterion.threshold is None:
        quantile = criterion.quantile or QUANTILE
        name = f"{metric} p{100 * quantile:g}"
        return Rule(name, metric, quantile, value_absolute=_seconds(absolute), value_relative=relative)
    name = f"{metric} above {criterion.threshold:g} s"
    if absolute is None or absolute.endswith("%"):
        share = _share(absolute)
        return Rule(name, metric, threshold=criterion.threshold, mean_absolute=share, mean_relative=relative)
    return Rule(name, metric, threshold=criterion.threshold, value_absolute=_seconds(absolute))


def _share(text: str | None) -> float:
    if text is None:
        return 0.0
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


def _seconds(text: str | None) -> float:
    return 0.0 if text is None else parse_duration(text)


class ArmCounts(Spec):
    """How often each outcome was seen, by version."""

    champion: dict[float, int] = Field(default_factory=dict)
    challenger: dict[float, int] = Field(default_factory=dict)


class MetricReport(Spec):
    """One criterion's outcomes under one share."""

    name: str
    """The rule's."""
    single: ArmCounts = ArmCounts()
    """Of requests without a sticky key: each was drawn on its own."""
    first: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By the hash of each sticky key: Unix seconds of its first outcome here, and that outcome."""
    bad: dict[str, float] = Field(default_factory=dict)
    """By the hash of each sticky key with a bad event: Unix seconds of its first one here."""


class ShareReport(Spec):
    """What came while the challenger had one share of the traffic."""

    weight: int
    """Percent."""
    champion: int = 0
    """Requests."""
    challenger: int = 0
    metrics: tuple[MetricReport, ...] = ()


class ExperimentReport(Spec):
    """What one router has counted of an experiment since it started: nothing in it ever gets less.

    Only requests count that both versions could have served. The hash of a sticky key is that of the split, FNV-1a-64
    of the experiment's id and the key, as 16 hexadecimal digits: whose key it is follows from it and the share.
    """

    id: str
    incarnation: str
    """Another for each start of each router."""
    sampling: int = 0
    """Sticky keys are kept where `sampled` says so: 0 is all of them. Raised when they would become too many."""
    shares: tuple[ShareReport, ...] = ()


BUCKETS: Final = 1000
_SPREAD: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def on_challenger(key: str, weight: int) -> bool:
    """Whether the split gives the key of this hash to the challenger."""
    return int(key, 16) % BUCKETS < weight * BUCKETS // 100


def sampled(key: str, sampling: int) -> bool:
    """Whether the key of this hash is among those that are kept: half of them for each step of `sampling`.

    Every router keeps the same ones, and no version more of them than the other.
    """
    return (int(key, 16) * _SPREAD & _MASK) >> (64 - sampling) == 0 if sampling else True
