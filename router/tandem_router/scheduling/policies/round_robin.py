"""roundRobin: one worker after the other, whatever they have to do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tandem_router.scheduling.policies import Candidate

C = TypeVar("C", bound="Candidate")


def round_robin(candidates: Sequence[C]) -> C:
    """The one chosen longest ago."""
    return min(candidates, key=lambda worker: worker.turn)
