"""The questions that simulations answer: how often falsely, how soon, and beside whom."""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from tandem_api.experiments import Rule
from tandem_operator.planning.experiments.betting import Direction, Margin

from bench.experiments import peers
from bench.experiments.watching import Question, crossing, log_e_path, outcomes
from bench.experiments.worlds import EQUAL, FEW, RAMP, STEADY, STICKY, STICKY_RAMP, Effect, World

ALPHA: Final = 0.05
POWER: Final = 0.8
SEED: Final = 20_26
_CHUNK: Final = 50
"""Runs that a process does at once."""

ERRORS = Question("errors, margin 0", "errorRate")
TTFT = Question("p95 TTFT, margin 0", "ttft")
WITHIN: Final = (
    (Question("errors, margin 0.5 %", "errorRate", Margin(absolute=0.005)), Effect(errors_absolute=0.005)),
    (Question("errors, margin a fifth", "errorRate", Margin(relative=0.2)), Effect(errors_relative=0.2)),
    (
        Question("p95 TTFT, margin 50 ms", "ttft", scale=Rule("ttft", "ttft", value_absolute=0.05)),
        Effect(ttft_absolute=0.05),
    ),
    (
        Question("p95 TTFT, margin 10 %", "ttft", scale=Rule("ttft", "ttft", value_relative=0.1)),
        Effect(ttft_relative=0.1),
    ),
)
WORLDS: Final = (STEADY, FEW, RAMP, STICKY, STICKY_RAMP)
WORSE: Final = (
    ("p95 TTFT 20 % higher", TTFT, Effect(ttft_relative=0.2)),
    ("errors 2 % against 1 %", ERRORS, Effect(errors_relative=1.0)),
    ("p95 TTFT twice", TTFT, Effect(ttft_relative=1.0)),
    ("errors 5 % against 1 %", ERRORS, Effect(errors_relative=4.0)),
)


@dataclass(frozen=True, slots=True)
class Result:
    """When a method decided, in the runs of one scenario."""

    world: str
    question: str
    effect: str
    method: str
    runs: int
    after: tuple[int, ...]
    """Requests until each decision, sorted; runs that never decided are missing."""

    @property
    def rate(self) -> float:
        return len(self.after) / self.runs

    @property
    def median(self) -> int | None:
        """Of all runs: None where fewer than half of them decide."""
        middle = math.ceil(self.runs / 2)
        return self.after[middle - 1] if len(self.after) >= middle else None

    def within(self, requests: float) -> float:
        return sum(after <= requests for after in self.after) / self.runs


def bound(runs: int, rate: float = ALPHA, confidence: float = 0.999) -> float:
    """The share of runs that a truth of `rate` exceeds with probability 1 - `confidence` at most (binomial)."""
    probability = cumulative = math.exp(runs * math.log1p(-rate))
    count = 0
    while cumulative < confidence:
        probability *= (runs - count) / (count + 1) * rate / (1 - rate)
        count += 1
        cumulative += probability
    return count / runs


When = dict[tuple[str, str], int | None]
"""By question and method: after how many requests it decided."""
Watch = Callable[[int], When]
"""From a run's number."""


def falsely(
    world: World, effect: Effect, questions: Sequence[Question], directions: Sequence[Direction], run: int
) -> When:
    """Verdicts on a challenger at which each of them is wrong."""
    requests = world.draw(effect, _random(world, effect, run))
    return {
        (question.name, direction): crossing(log_e_path(requests, question, direction), 1 / ALPHA)
        for question in questions
        for direction in directions
    }


def beside(world: World, effect: Effect, questions: Sequence[Question], run: int) -> When:
    """Harm, as every method finds it."""
    requests = world.draw(effect, _random(world, effect, run))
    found: When = {}
    for question in questions:
        seen = outcomes(requests, question)
        found[question.name, "tandem"] = crossing(log_e_path(requests, question, "harm"), 1 / ALPHA)
        if world.users:
            every = log_e_path(requests, question, "harm", by_key=False)
            found[question.name, "tandem, every request"] = crossing(every, 1 / ALPHA)
        found[question.name, "canary"] = peers.canary(requests, question.metric)
        found[question.name, "canary, in a row"] = peers.canary(requests, question.metric, in_a_row=True)
        found[question.name, "mSPRT"] = peers.msprt(requests, seen, ALPHA)
        if len(world.shares) == 1:
            found[question.name, "savvi"] = peers.multinomial(requests, seen, ALPHA)
    return found


def _random(world: World, effect: Effect, run: int) -> np.random.Generator:
    return np.random.default_rng([SEED, *world.name.encode(), *repr(effect).encode(), run])


def repeat(world: World, effect: str, watch: Watch, runs: int, pool: ProcessPoolExecutor | None = None) -> list[Result]:
    """One scenario, so many times."""
    after: dict[tuple[str, str], list[int]] = defaultdict(list)
    each = pool.map(watch, range(runs), chunksize=_CHUNK) if pool else map(watch, range(runs))
    for found in each:
        for case, when in found.items():
            after[case] += [] if when is None else [when]
    return [
        Result(world.name, question, effect, method, runs, tuple(sorted(when)))
        for (question, method), when in after.items()
    ]


def false_verdicts(worlds: Sequence[World], runs: int, pool: ProcessPoolExecutor | None = None) -> Iterator[Result]:
    """At equality, and at each margin's edge, where rolling back and promoting are both wrong by a hair."""
    for world in worlds:
        both: tuple[Direction, ...] = ("harm", "benefit")
        yield from repeat(world, "equal", partial(falsely, world, EQUAL, (ERRORS, TTFT), both), runs, pool)
        margins = tuple(question for question, _ in WITHIN)
        yield from repeat(world, "equal", partial(falsely, world, EQUAL, margins, ("harm",)), runs, pool)
        for question, effect in WITHIN:
            yield from repeat(world, "at the edge", partial(falsely, world, effect, (question,), both), runs, pool)


def comparison(runs: int, pool: ProcessPoolExecutor | None = None) -> Iterator[Result]:
    """How often falsely beside the peers, and how soon."""
    for world in (STEADY, RAMP, STICKY):
        yield from repeat(world, "equal", partial(beside, world, EQUAL, (ERRORS, TTFT)), runs, pool)
    for world in (STEADY, FEW, World("3,000 users, 50/50", users=3000)):
        for name, question, effect in WORSE:
            yield from repeat(world, name, partial(beside, world, effect, (question,)), runs, pool)


def fixed_size(question: Question, effect: Effect) -> int:
    """Requests of the fixed-sample test of the same power; the rates of bad events by simulation of a large sample."""
    requests = World(STEADY.name, requests=2_000_000).draw(effect, np.random.default_rng(SEED))
    arms = requests.challenger, ~requests.challenger
    if question.metric == "errorRate":
        challenger, champion = (float(requests.error[arm].mean()) for arm in arms)
    else:
        bar = np.quantile(requests.ttft[arms[1]], question.quantile)
        challenger, champion = (float((requests.ttft[arm] > bar).mean()) for arm in arms)
    return peers.fixed_sample(champion, challenger, ALPHA, POWER)


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1)))
