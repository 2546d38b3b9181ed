"""Simulated traffic of two versions: latencies with heavy tails, a day's rhythm, users of very different habits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

REQUESTS: Final = 20_000
PER_MINUTE: Final = 100
MEDIAN, SPREAD = 0.3, 0.8
"""Seconds, and the standard deviation of the logarithm, of most TTFTs."""
STALLS, TAIL = 0.02, 1.2
"""This share of the requests is slower by a Pareto factor of this index: its variance is infinite."""
ERRORS: Final = 0.01
SWING: Final = 2.0
"""Between the quietest hour and the mean, and the mean and the busiest: of latencies and of errors."""


@dataclass(frozen=True, slots=True)
class Requests:
    """One experiment, request by request."""

    share: NDArray[np.float64]
    """Probability that the challenger got it."""
    challenger: NDArray[np.bool_]
    error: NDArray[np.bool_]
    ttft: NDArray[np.float64]
    """Seconds."""
    key: NDArray[np.int64] | None
    """The user, where the split is sticky."""

    def minutes(self) -> NDArray[np.int64]:
        return np.arange(self.share.size) // PER_MINUTE


@dataclass(frozen=True, slots=True)
class Effect:
    """What the challenger does to a request. By default nothing."""

    errors_absolute: float = 0.0
    errors_relative: float = 0.0
    ttft_absolute: float = 0.0
    ttft_relative: float = 0.0


EQUAL: Final = Effect()


@dataclass(frozen=True, slots=True)
class World:
    """Where an experiment takes place."""

    name: str
    shares: Sequence[float] = (0.5,)
    """The challenger's, for equally many requests each."""
    rhythm: bool = False
    """Load rises and falls once while the experiment runs, and latencies and errors with it."""
    users: int = 0
    """Of a sticky split; 0: each request is drawn on its own."""
    requests: int = field(default=REQUESTS)

    def draw(self, effect: Effect, random: np.random.Generator) -> Requests:
        n = self.requests
        share = np.repeat(np.asarray(self.shares, float), -(-n // len(self.shares)))[:n]
        level = SWING ** np.sin(2 * np.pi * (np.arange(n) / n - 0.25)) if self.rhythm else np.ones(n)
        ttft = MEDIAN * level * np.exp(random.normal(0, SPREAD, n))
        stalled = random.random(n) < STALLS
        ttft[stalled] *= 1 + random.pareto(TAIL, int(stalled.sum()))
        errors = ERRORS * level
        key, bucket = None, random.random(n)
        if self.users:
            activity = 1 / np.arange(1, self.users + 1)
            key = random.choice(self.users, n, p=activity / activity.sum())
            ttft *= np.exp(random.normal(0, 0.7, self.users))[key]
            errors = np.minimum(0.3, errors * np.exp(random.normal(0, 1, self.users))[key])
            bucket = random.random(self.users)[key]
        challenger = bucket < share
        worse = errors * (1 + effect.errors_relative) + effect.errors_absolute
        error = random.random(n) < np.where(challenger, worse, errors)
        slower = ttft * (1 + effect.ttft_relative) + effect.ttft_absolute
        return Requests(share, challenger, error, np.where(challenger, slower, ttft), key)


STEADY: Final = World("50/50, heavy tails")
FEW: Final = World("10 %, heavy tails", (0.1,))
RAMP: Final = World("1, 5, 25, 50 % with a day's rhythm", (0.01, 0.05, 0.25, 0.5), rhythm=True)
STICKY: Final = World("300 users, 50/50", users=300)
STICKY_RAMP: Final = World("300 users, 1, 5, 25, 50 % with a day's rhythm", RAMP.shares, rhythm=True, users=300)
"""Load and shares move together, which is where sums over all shares mislead."""
