"""Which request counts as slow, or long: one that is worse than the champion's running quantile.

The bar comes from the past alone. It stands still between two recomputations and never knows the request that it is
held against, so that under "no difference" each version's requests pass it equally often, whatever the load does. It
need not be right for that: the same bar is held against both versions.

A margin scales the challenger's value before it meets the bar (`tandem_api.experiments.Rule`), which makes "within the
margin" the same as "no worse".
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

FIRST: Final = 200
"""Values of the champion before there is a bar."""
EVERY: Final = 250
"""Values of the champion between two recomputations."""
BLOCKS: Final = 16
"""How many of the latest such stretches a bar is made of: 4,000 values once all of them are full."""


class RunningQuantile:
    """The champion's quantile, of what it did until the last recomputation.

    Values are sorted in stretches, so that a recomputation merges sorted runs (a tenth of a millisecond for 4,000
    values) and the one request in 250 that pays for it is not held up.
    """

    def __init__(self, quantile: float) -> None:
        """`quantile` is above 0 and below 1."""
        if not 0 < quantile < 1:
            raise ValueError(f"a quantile is above 0 and below 1, not {quantile}")
        self._quantile = quantile
        self._stretch: list[float] = []
        self._past: deque[list[float]] = deque(maxlen=BLOCKS)
        self._bar: float | None = None

    @property
    def bar(self) -> float | None:
        """What a value has to be above to count as bad; None while too little is known."""
        return self._bar

    def add(self, value: float) -> None:
        """A value of the champion. It counts for the bars of those that come after it."""
        self._stretch.append(value)
        if len(self._stretch) == (EVERY if self._past else FIRST):
            self._past.append(sorted(self._stretch))
            self._stretch = []
            self._bar = nearest_rank(sorted(value for stretch in self._past for value in stretch), self._quantile)


def nearest_rank(ascending: Sequence[float], quantile: float) -> float:
    """The smallest value that at least that share of all values is not above."""
    return ascending[max(0, math.ceil(quantile * len(ascending)) - 1)]
