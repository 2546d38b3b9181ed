"""What others do with the same requests: a canary of the usual kind, and published sequential tests.

- Canary: each minute it holds the challenger's averages of that minute against a fixed limit beside the champion's, and
  rolls back after so many failed checks. So do Flagger (`analysis.interval: 1m`, `threshold: 5`) and Argo Rollouts
  (`failureLimit`).
- `savvi` 0.3.1, its multinomial test (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS
  2022), asked whether bad events fall on the versions as traffic does. It knows one share for the whole experiment.
- mSPRT, the mixture sequential probability ratio test of the difference of two rates (Johari, Koomen, Pekelis and
  Walsh, "Always valid inference: continuous monitoring of A/B tests", Operations Research 2022), written here from the
  paper with the variance estimated from what was seen.

The latter two look for any difference: to be compared with a search for harm alone, only what points to harm counts,
at twice alpha.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.experiments.watching import Outcomes, crossing
from bench.experiments.worlds import PER_MINUTE, Requests

FAILURES: Final = 5
"""Failed checks until the canary is rolled back."""
ERRORS_LIMIT, TTFT_LIMIT = 0.01, 1.2
"""By how much the challenger's error rate may be above the champion's, and how often its p95 may be the champion's."""
_FEWEST: Final = 10
"""Requests of each version without which a minute is not judged."""
_PRIOR: Final = 0.01
"""Standard deviation of the differences that the mSPRT expects."""


def canary(requests: Requests, metric: str, *, in_a_row: bool = False) -> int | None:
    """After how many requests it rolls back. `in_a_row`: a passed check forgives the failed ones before it."""
    minutes = requests.minutes()
    failed = 0
    for minute in range(int(minutes[-1]) + 1):
        chosen = slice(minute * PER_MINUTE, (minute + 1) * PER_MINUTE)
        arm = requests.challenger[chosen]
        if min(arm.sum(), (~arm).sum()) < _FEWEST:
            continue
        if metric == "errorRate":
            errors = requests.error[chosen]
            fails = bool(errors[arm].mean() > errors[~arm].mean() + ERRORS_LIMIT)
        else:
            ttft = requests.ttft[chosen]
            fails = bool(np.quantile(ttft[arm], 0.95) > TTFT_LIMIT * np.quantile(ttft[~arm], 0.95))
        failed = failed + 1 if fails else 0 if in_a_row else failed
        if failed == FAILURES:
            return int(chosen.stop)
    return None


def multinomial(requests: Requests, found: Outcomes, alpha: float) -> int | None:
    """After how many requests savvi's test has shown that the challenger has more bad events than its share."""
    # `make bench-experiments` installs it; nothing else needs it, and it brings solvers along.
    from savvi.multinomial import Multinomial

    share = float(requests.share[0])
    test = Multinomial(2 * alpha, np.array([1 - share, share]))
    for place in np.flatnonzero(found.known & found.bad):
        on_challenger = bool(requests.challenger[place])
        test.update(np.array([not on_challenger, on_challenger], dtype=int))
        if test.odds >= 1 / (2 * alpha) and test.theta[1] > share:
            return int(place) + 1
    return None


def msprt(requests: Requests, found: Outcomes, alpha: float) -> int | None:
    """After how many requests the mSPRT has shown that the challenger's rate of bad events is higher."""
    rates, variances = [], []
    for arm in (requests.challenger, ~requests.challenger):
        counted = found.known & arm
        n, bad = np.cumsum(counted), np.cumsum(counted & found.bad)
        rate = bad / np.maximum(n, 1)
        rates.append(rate)
        smoothed = (bad + 1) / (n + 2)  # never 0: one side without bad events is not known to have none
        variances.append(smoothed * (1 - smoothed) / np.maximum(n, 1))
    difference, variance = rates[0] - rates[1], variances[0] + variances[1]
    path: NDArray[np.float64] = np.where(
        difference > 0,
        0.5 * np.log(variance / (variance + _PRIOR**2))
        + difference**2 * _PRIOR**2 / (2 * variance * (variance + _PRIOR**2)),
        -np.inf,
    )
    return crossing(path, 1 / (2 * alpha))


def fixed_sample(champion: float, challenger: float, alpha: float, power: float) -> int:
    """Requests, both versions together at 50/50, of the one-sided test of two rates that is looked at once."""
    from statistics import NormalDist

    normal = NormalDist()
    both = (champion + challenger) / 2
    spread = normal.inv_cdf(1 - alpha) * math.sqrt(2 * both * (1 - both)) + normal.inv_cdf(power) * math.sqrt(
        champion * (1 - champion) + challenger * (1 - challenger)
    )
    return 2 * math.ceil((spread / (challenger - champion)) ** 2)
