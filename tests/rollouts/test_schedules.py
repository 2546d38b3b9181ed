"""The planner keeps its promises in ten thousand random schedules, and the schedules find what is wrong with one."""

import pytest
from tandem_operator.planning import plan

from tests.rollouts.exploring import Result, Schedule
from tests.rollouts.faults import FAULTS, Fault
from tests.rollouts.manifests import Manifests
from tests.rollouts.watching import Violated

SCHEDULES = 10_000
PARTS = 20

SEEDS = (49, 115, 168, 208, 390, 898, 1530, 2273, 2577, 2842, 2974, 3500, 3652, 4086, 4191, 4520, 9350)
"""Of failures found: of the planner, and of the simulation of it."""


def run(seed: int, manifests: Manifests, *, locked: bool = True) -> Result:
    try:
        return Schedule(seed, manifests, plan, locked=locked).run()
    except Violated as error:
        error.add_note(f"seed {seed}")
        raise


def run_all(manifests: Manifests, *, locked: bool = True) -> None:
    for seed in range(SCHEDULES):
        run(seed, manifests, locked=locked)


@pytest.mark.slow
@pytest.mark.usefixtures("patch")
@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_breaks_a_promise(part: int, manifests: Manifests) -> None:
    size = SCHEDULES // PARTS
    results = [run(seed, manifests) for seed in range(part * size, (part + 1) * size)]
    # What a crash excuses must stay a rarity, or the schedules would look at nothing.
    assert sum(result.excused for result in results) < 0.01 * sum(result.checked for result in results)


@pytest.mark.usefixtures("patch")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_once_failed_stays_mended(seed: int, manifests: Manifests) -> None:
    run(seed, manifests)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found(fault: Fault, patch: pytest.MonkeyPatch, manifests: Manifests) -> None:
    fault(patch)
    with pytest.raises(Violated):
        run_all(manifests)


@pytest.mark.usefixtures("patch")
def test_a_write_from_a_stale_read_is_found(manifests: Manifests) -> None:
    with pytest.raises(Violated):
        run_all(manifests, locked=False)
