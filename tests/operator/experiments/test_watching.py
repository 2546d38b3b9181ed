"""What the simulations watch is what operator and router do."""

from collections import Counter

import numpy as np
import pytest
from tandem_api.experiments import Rule
from tandem_operator.planning.experiments.betting import Margin, log_e
from tandem_operator.planning.experiments.evidence import Evidence, Tally, merged
from tandem_router.experiments.quantiles import EVERY, FIRST, RunningQuantile

from bench.experiments.watching import Question, log_e_path, outcomes, running_bars
from bench.experiments.worlds import RAMP, STEADY, STICKY_RAMP, Effect

WORSE = Effect(errors_relative=1.0, ttft_relative=0.2)
QUESTIONS = (
    Question("errors", "errorRate"),
    Question("errors within 0.5 %", "errorRate", Margin(absolute=0.005)),
    Question("errors within a fifth", "errorRate", Margin(relative=0.2)),
    Question("p95 within 10 %", "ttft", scale=Rule("ttft", "ttft", value_relative=0.1)),
)


def evidence(requests, question, count):
    """As the operator has it after so many requests."""
    found = outcomes(requests, question)
    keys = np.arange(count) if requests.key is None else requests.key
    seen, bad_before, all_outcomes, first_bad = set(), set(), Counter(), Counter()
    for place in np.flatnonzero(found.known[:count]):
        case = float(requests.share[place]), bool(requests.challenger[place]), float(found.bad[place])
        if keys[place] not in seen:
            seen.add(keys[place])
            all_outcomes[case] += 1
        if found.bad[place] and keys[place] not in bad_before:
            bad_before.add(keys[place])
            first_bad[case] += 1
    return Evidence(tallies(all_outcomes), None if requests.key is None else tallies(first_bad))


def tallies(counts):
    return merged(
        Tally(share, **{"challenger" if challenger else "champion": {value: times}})
        for (share, challenger, value), times in counts.items()
    )


@pytest.mark.parametrize("world", [STEADY, RAMP, STICKY_RAMP], ids=lambda world: world.name)
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
@pytest.mark.parametrize("direction", ["harm", "benefit"])
def test_the_path_is_the_operators_e_value_at_every_moment(world, question, direction):
    requests = world.draw(WORSE, np.random.default_rng(7))
    path = log_e_path(requests, question, direction)
    for count in (1, 300, 5_001, 20_000):
        known = evidence(requests, question, count)
        assert path[count - 1] == pytest.approx(log_e(known, question.margin, direction), abs=1e-9)


@pytest.mark.parametrize("count", [0, 199, 200, 449, 450, 7_000])
def test_the_bars_are_those_of_the_router(count):
    values = np.random.default_rng(3).lognormal(size=count)
    running, bars = RunningQuantile(0.95), running_bars(values, 0.95)
    for seen, value in enumerate(values, start=1):
        running.add(float(value))
        index = (seen - FIRST) // EVERY
        assert running.bar == (bars[index] if index >= 0 else None)
