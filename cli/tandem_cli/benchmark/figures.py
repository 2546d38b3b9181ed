"""From samples to figures: pure statistics.

Percentiles interpolate between the two nearest values, as numpy and `vllm bench serve` do. Rates are by the wall
clock: from the moment the measurement began to the end of its last request.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tandem_cli.benchmark.samples import Sample

PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of some values, in seconds."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Slo:
    """Upper bounds in seconds; a request is good that keeps them all. None: not asked for."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    def kept(self, sample: Sample) -> bool:
        """Whether a request ended well within all bounds. An answer of one token has no TPOT to be late."""
        pairs = ((self.ttft, sample.ttft), (self.tpot, sample.tpot), (self.e2e, sample.latency))
        return not sample.error and all(bound is None or value is None or value <= bound for bound, value in pairs)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a measurement found. Rates are per second, distributions in seconds; None: there was nothing to measure."""

    seconds: float
    """By the wall clock."""
    requests: int
    """All of them."""
    succeeded: int
    errors: Mapping[str, int]
    """Failures by kind, the most frequent first."""
    request_rate: float
    """Of those that succeeded."""
    prompt_tokens: int
    output_tokens: int
    output_token_rate: float
    ttft: Distribution | None
    itl: Distribution | None
    tpot: Distribution | None
    e2e: Distribution | None
    lag: Distribution | None
    """By how much requests were sent later than they were due: what this client, or its limit, added."""
    good: int | None
    """Requests that kept the SLO; None without one."""
    goodput: float | None
    """The same per second."""


def figures(samples: Iterable[Sample], slo: Slo | None = None) -> Figures:
    """The figures of a measurement. Distributions are of the requests that succeeded."""
    all_samples = list(samples)
    succeeded = [sample for sample in all_samples if not sample.error]
    seconds = max((sample.end for sample in all_samples), default=0.0)
    output_tokens = sum(sample.output_tokens for sample in succeeded)
    good = None if slo is None else sum(slo.kept(sample) for sample in succeeded)
    return Figures(
        seconds=seconds,
        requests=len(all_samples),
        succeeded=len(succeeded),
        errors=dict(Counter(sample.error for sample in all_samples if sample.error).most_common()),
        request_rate=_rate(len(succeeded), seconds),
        prompt_tokens=sum(sample.prompt_tokens for sample in succeeded),
        output_tokens=output_tokens,
        output_token_rate=_rate(output_tokens, seconds),
        ttft=distribution([value for sample in succeeded if (value := sample.ttft) is not None]),
        itl=distribution([gap for sample in succeeded for gap in sample.itl]),
        tpot=distribution([value for sample in succeeded if (value := sample.tpot) is not None]),
        e2e=distribution([sample.latency for sample in succeeded]),
        lag=distribution([sample.sent - sample.due for sample in all_samples]),
        good=good,
        goodput=None if good is None else _rate(good, seconds),
    )


def distribution(values: Sequence[float]) -> Distribution | None:
    """Of values in any order; None of none."""
    if not values:
        return None
    cuts = statistics.quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    p50, p90, p95, p99 = (cuts[percentile - 1] for percentile in PERCENTILES)
    return Distribution(
        count=len(values),
        mean=statistics.fmean(values),
        min=min(values),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        max=max(values),
    )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0
