"""What is known of an experiment's two versions: counts that merge in any order, from as many routers as there are.

A request's outcome is a number from 0 (good) to 1 (bad), and how often each was seen is all that the statistics need:
no order, no averages. For latencies and lengths an outcome is whether the request was worse than the champion's
running quantile, taken from what came before it, so that no threshold need be known beforehand; a margin scales the
challenger's value before it is compared, which makes "within the margin" the same as "no worse".

Under a sticky split the user is what was drawn at random, and not the request: each key's first outcome counts, and
each key's first bad event, once over all routers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

Arm = Literal["champion", "challenger"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of one metric while the challenger's share stood still.

    Statistics are kept for each share: with all of them in one pot, a load that changes together with the share would
    look like a difference between the versions (Simpson's paradox).
    """

    share: float
    """Of the keys that the challenger gets: above 0, below 1."""
    champion: Mapping[float, int] = field(default_factory=dict)
    """How often each outcome was seen."""
    challenger: Mapping[float, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"the challenger's share is {self.share}: there is nothing to compare")

    def __add__(self, other: Self) -> "Tally":
        if other.share != self.share:
            raise ValueError(f"tallies of the shares {self.share} and {other.share} do not add up")
        champion, challenger = (
            Counter(self.champion) + Counter(other.champion),
            Counter(self.challenger) + Counter(other.challenger),
        )
        return Tally(self.share, champion, challenger)

    def of(self, arm: Arm) -> Mapping[float, int]:
        return self.champion if arm == "champion" else self.challenger


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one metric."""

    outcomes: tuple[Tally, ...] = ()
    """Of requests; under a sticky split, of each key's first request. One tally for each share."""
    first_bad: tuple[Tally, ...] | None = None
    """Under a sticky split: of each key's first bad event. None where each request is drawn on its own."""

    def count(self, arm: Arm) -> int:
        """Outcomes of a version."""
        return sum(count for tally in self.outcomes for count in tally.of(arm).values())

    def mean(self, arm: Arm) -> float | None:
        """Mean outcome of a version; None before its first."""
        count = self.count(arm)
        total = sum(value * times for tally in self.outcomes for value, times in tally.of(arm).items())
        return total / count if count else None


def merged(tallies: Iterable[Tally]) -> tuple[Tally, ...]:
    """One tally for each share, in the order in which the shares came."""
    found: dict[float, Tally] = {}
    for tally in tallies:
        found[tally.share] = found[tally.share] + tally if tally.share in found else tally
    return tuple(found.values())
