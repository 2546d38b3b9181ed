"""Token buckets: each holds a minute's worth, and fills up evenly.

What is drawn may turn out to be more than was thought, so a bucket can owe: it then gives nothing until it is filled
again. A full bucket is like one that was never used, so nothing has to be kept of those who have not come for a while.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

MOST: Final = 100_000
"""Buckets at once; beyond that the one that was used longest ago is as good as full."""
MINUTE: Final = 60.0


class Draw(msgspec.Struct, frozen=True):
    """Something to take from a bucket."""

    bucket: str
    limit: int
    """A minute's worth, and what it holds."""
    amount: float


class Drawn(msgspec.Struct, frozen=True):
    """What came of it: all draws succeed, or none does."""

    granted: bool
    levels: tuple[float, ...]
    """Of each bucket, afterwards."""


def missing(draw: Draw, level: float) -> float:
    """Seconds until a bucket has enough; 0 where it has."""
    return max(0.0, (draw.amount - level) * MINUTE / draw.limit)


def until_full(draw: Draw, level: float) -> float:
    """Seconds until a bucket is full."""
    return max(0.0, (draw.limit - level) * MINUTE / draw.limit)


class Buckets:
    """Buckets in this process."""

    def __init__(self, clock: Callable[[], float], most: int = MOST) -> None:
        """`clock` counts seconds and never goes back."""
        self._clock = clock
        self._most = most
        self._held: OrderedDict[str, tuple[float, float, int]] = OrderedDict()
        """Level, when that was, and limit; the one that was used last at the end."""

    def __len__(self) -> int:
        return len(self._held)

    def draw(self, draws: Sequence[Draw]) -> Drawn:
        """Takes all, or nothing where one bucket has too little."""
        now = self._clock()
        levels = [self._level(draw, now) for draw in draws]
        if any(level < draw.amount for draw, level in zip(draws, levels, strict=True)):
            return Drawn(False, tuple(levels))
        return Drawn(True, tuple(self._put(draw, level, now) for draw, level in zip(draws, levels, strict=True)))

    def correct(self, draw: Draw) -> None:
        """Takes an amount whatever there is; a negative one is given back."""
        now = self._clock()
        self._put(draw, self._level(draw, now), now)

    def _level(self, draw: Draw, now: float) -> float:
        held = self._held.get(draw.bucket)
        if held is None:
            return float(draw.limit)
        level, at, _ = held
        return min(float(draw.limit), level + (now - at) * draw.limit / MINUTE)

    def _put(self, draw: Draw, level: float, now: float) -> float:
        level = min(float(draw.limit), level - draw.amount)
        known = draw.bucket in self._held
        self._held[draw.bucket] = (level, now, draw.limit)
        if known:
            self._held.move_to_end(draw.bucket)
        else:
            self._forget(now)
        return level

    def _forget(self, now: float) -> None:
        """Drops the oldest where they are full, or too many: more than come."""
        for _ in range(2):
            oldest = next(iter(self._held))
            level, at, limit = self._held[oldest]
            if len(self._held) <= self._most and level + (now - at) * limit / MINUTE < limit:
                return
            if len(self._held) > 1:
                del self._held[oldest]
