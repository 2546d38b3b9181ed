"""Tests that may be looked at after every request: bets against "no worse" and against "worse than the margin".

A bet at fair odds can't make money in the long run. So whoever has multiplied the stake by 1 / alpha has shown, at
level alpha and at whatever moment, that the odds were not fair: such a stake is an e-process (Ville's inequality;
Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023; Waudby-Smith
and Ramdas, "Estimating means of bounded random variables by betting", 2024).

An outcome x of a request pays

    Z = (x - absolute) / w             if it went to the challenger (which happens with probability w),
    Z = -(1 + relative) x / (1 - w)    if it went to the champion.

Its expectation is (challenger's mean - absolute) - (1 + relative) (champion's mean), whatever the load does and
however the common level moves, for the share w is drawn and known. A stake that is multiplied by 1 + b Z bets on harm
where b is above 0 and on benefit where it is below. With no absolute margin this is the likelihood ratio of "a bad
event fell on the challenger" under odds that are `RATIOS` times those of the null; which ratio is right is not known,
so equal stakes are put on all of them. Counts are all it takes, thus the order of events and their router do not
matter.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tandem_operator.planning.experiments.evidence import Evidence, Tally

Direction = Literal["harm", "benefit"]

RATIOS: Final = (1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0)
"""Of the challenger's odds to those of the null."""
_BOLDEST: Final = 0.98
"""Of the stake that one outcome may lose."""
_RESOLUTION: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Margin:
    """By how much the challenger's mean outcome may be above the champion's and still count as no worse."""

    absolute: float = 0.0
    relative: float = 0.0


NONE: Final = Margin()


def bet(ratio: float, share: float, margin: Margin) -> float:
    """The b of the stakes for one ratio: above 1 it bets on harm, below on benefit."""
    challenger, champion = share * (1 + margin.relative), 1 - share
    wanted = share * ((challenger + champion) * ratio / (challenger * ratio + champion) - 1)
    if wanted > 0:
        worst = max(margin.absolute / share, (1 + margin.relative) / champion)
    else:
        worst = (1 - margin.absolute) / share
    return max(-_BOLDEST / worst, min(_BOLDEST / worst, wanted))


def log_stakes(tallies: Iterable[Tally], margin: Margin, ratios: Sequence[float]) -> list[float]:
    """Logarithm of what a stake of 1 has become, for each ratio."""
    logs = [0.0] * len(ratios)
    for tally in tallies:
        for index, ratio in enumerate(ratios):
            b = bet(ratio, tally.share, margin)
            gain = b / tally.share
            loss = b * (1 + margin.relative) / (1 - tally.share)
            logs[index] += math.fsum(
                [times * math.log1p(gain * (value - margin.absolute)) for value, times in tally.challenger.items()]
                + [times * math.log1p(-loss * value) for value, times in tally.champion.items()]
            )
    return logs


def log_e(evidence: Evidence, margin: Margin, direction: Direction) -> float:
    """Logarithm of the e-value against "no worse than the margin" (harm) or "worse than the margin" (benefit)."""
    ratios = RATIOS if direction == "harm" else tuple(1 / ratio for ratio in RATIOS)
    found = _log_mean(log_stakes(evidence.outcomes, margin, ratios))
    if direction == "harm" and evidence.first_bad is not None and not margin.absolute:
        # Each key's first bad event says more than its first request. It can't show that there are few bad events: a
        # worse version has used up its keys sooner. The mean of two e-values is one.
        found = _log_mean([found, _log_mean(log_stakes(evidence.first_bad, margin, ratios))])
    return found


def difference(evidence: Evidence, alpha: float) -> tuple[float, float]:
    """Bounds of challenger's mean - champion's mean that hold at all times together, with probability 1 - `alpha`.

    They are the margins that the bets can't refute: a confidence sequence, to 0.0001.
    """
    limit = math.log(2 / alpha)
    low = _last(lambda margin: log_e(evidence, Margin(margin), "harm") >= limit)
    high = _last(lambda margin: log_e(evidence, Margin(margin), "benefit") < limit)
    return low, high


def _last(holds: Callable[[float], bool]) -> float:
    """Where, from -1 to 1, something that holds at first ceases to."""
    low, high = -1.0, 1.0
    if not holds(low):
        return low
    while high - low > _RESOLUTION:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs) / len(logs))
