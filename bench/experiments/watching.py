"""The operator's e-values after every request of a simulated experiment.

`tandem_operator.planning.experiments.betting.log_e` gives one value for one state of knowledge; this gives the values
after each request at once, from the same bets. A test holds the two together, and the running quantile here to that
of the router.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from tandem_api.experiments import Rule
from tandem_operator.planning.experiments.betting import NONE, RATIOS, Direction, Margin, bet
from tandem_router.experiments.quantiles import BLOCKS, EVERY, FIRST

from bench.experiments.worlds import Requests

_UNSCALED: Final = Rule("ttft", "ttft")
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Question:
    """One metric with its margin."""

    name: str
    metric: Literal["errorRate", "ttft"]
    margin: Margin = NONE
    """Of the rate of bad requests."""
    scale: Rule = _UNSCALED
    """How the challenger's TTFT is scaled."""
    quantile: float = 0.95


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What counts, request by request."""

    bad: Flags
    known: Flags
    """Whether the request has an outcome: there is a bar to hold it against."""


def outcomes(requests: Requests, question: Question) -> Outcomes:
    """Which requests are bad, as a router tells it."""
    if question.metric == "errorRate":
        return Outcomes(requests.error, np.ones(requests.error.size, bool))
    bars = running_bars(requests.ttft[~requests.challenger], question.quantile)
    before = np.cumsum(~requests.challenger) - ~requests.challenger
    index = (before - FIRST) // EVERY
    known = before >= FIRST
    bar = np.where(known, bars[np.maximum(index, 0)] if bars.size else np.inf, np.inf)
    scaled = (requests.ttft - question.scale.value_absolute) / (1 + question.scale.value_relative)
    return Outcomes(np.where(requests.challenger, scaled, requests.ttft) > bar, known)


def running_bars(champion: Floats, quantile: float) -> Floats:
    """The champion's quantile after the first values, and after each stretch since."""
    ends = np.arange(FIRST, champion.size + 1, EVERY)
    found = np.empty(ends.size)
    for place, end in enumerate(ends):
        window = champion[max(0, end - BLOCKS * EVERY) : end]
        rank = max(0, math.ceil(quantile * window.size) - 1)
        found[place] = np.partition(window, rank)[rank]
    return found


def log_e_path(requests: Requests, question: Question, direction: Direction, *, by_key: bool = True) -> Floats:
    """Logarithm of the e-value after each request. `by_key` False falls into the trap of sticky users on purpose."""
    found = outcomes(requests, question)
    sticky = by_key and requests.key is not None
    counted = first(requests, found.known) if sticky else found.known
    path = _path(requests, found.bad, counted, question.margin, direction)
    if sticky and direction == "harm" and not question.margin.absolute:
        events = first(requests, found.known & found.bad)
        path = np.logaddexp(path, _path(requests, found.bad, events, question.margin, direction)) - math.log(2)
    return path


def first(requests: Requests, among: Flags) -> Flags:
    """Each key's first request among these."""
    assert requests.key is not None
    places = np.flatnonzero(among)
    _, index = np.unique(requests.key[places], return_index=True)
    found = np.zeros(among.size, bool)
    found[places[index]] = True
    return found


def _path(requests: Requests, bad: Flags, counted: Flags, margin: Margin, direction: Direction) -> Floats:
    ratios: Sequence[float] = RATIOS if direction == "harm" else [1 / ratio for ratio in RATIOS]
    moves = counted & (bad | (requests.challenger if margin.absolute else False))
    places = np.flatnonzero(moves)
    shares, which = np.unique(requests.share[places], return_inverse=True)
    table = np.empty((len(ratios), shares.size, 3))
    for row, ratio in enumerate(ratios):
        for column, share in enumerate(shares):
            b = bet(ratio, float(share), margin)
            table[row, column] = (
                math.log1p(b / share * -margin.absolute),
                math.log1p(b / share * (1 - margin.absolute)),
                math.log1p(-b * (1 + margin.relative) / (1 - share)),
            )
    kind = np.where(requests.challenger[places], bad[places].astype(int), 2)
    logs = np.cumsum(table[:, which, kind], axis=1)
    top = logs.max(axis=0) if places.size else np.empty(0)
    values = np.concatenate(([0.0], top + np.log(np.exp(logs - top).mean(axis=0))))
    return values[np.cumsum(moves)]


def crossing(path: Floats, e_value: float) -> int | None:
    """After how many requests it is reached for the first time; None: never."""
    reached = path >= math.log(e_value)
    return int(reached.argmax()) + 1 if reached.any() else None
