"""Which of the workers that could take a call gets it: one small file for each policy, behind one interface."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from tandem_router.scheduling.policies.least_loaded import least_loaded
from tandem_router.scheduling.policies.round_robin import round_robin


class Candidate(Protocol):
    """A worker with a free place, as a policy sees it."""

    @property
    def load(self) -> int:
        """Calls that it has, other routers' included as far as known."""

    @property
    def turn(self) -> int:
        """Grows with each choice: the lowest waited longest for its turn."""


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """Picks one of at least one candidates. Pure: whoever asks counts the choice."""

    def __call__(self, candidates: Sequence[C]) -> C: ...


def policy(name: Literal["leastLoaded", "roundRobin"]) -> Policy:
    """The policy of that name in `routing.policy`."""
    return round_robin if name == "roundRobin" else least_loaded


__all__ = ["Candidate", "Policy", "policy"]
