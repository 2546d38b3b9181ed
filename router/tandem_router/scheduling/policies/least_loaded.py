"""leastLoaded: the worker with the fewest calls; among equals, in turn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tandem_router.scheduling.policies import Candidate

C = TypeVar("C", bound="Candidate")


def least_loaded(candidates: Sequence[C]) -> C:
    """The least loaded; of several, the one chosen longest ago, so that the first in the list isn't worn out."""
    return min(candidates, key=lambda worker: (worker.load, worker.turn))
