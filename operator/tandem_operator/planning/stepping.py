"""How far a rollout may go in one step: arithmetic on counts of workers, for one version.

A rollout goes through stages, as many as the largest role has workers. At stage k each role has its share of the wanted
revision's workers, so that prefill and decode keep their ratio, and from the first stage on there is a pair. Nothing is
remembered between steps: how far the rollout is can be read off the counts.

Growing counts every worker that exists and shrinking only those that serve, as a Deployment does. So both can be done
at once and in any order, and either can fail, without leaving the bounds of maxSurge and maxUnavailable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from tandem_api.inference_service import RolloutSpec

from tandem_operator.planning.resolving import Role

Counts = Mapping[Role, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many workers of a role may be more, or fewer, than asked for."""

    surge: int
    unavailable: int


def bounds(rollout: RolloutSpec, desired: Counts) -> dict[Role, Bounds]:
    """By role. Shares of the replicas are rounded as a Deployment rounds them: surge up, unavailable down."""
    return {role: _bounds(rollout, count) for role, count in desired.items()}


def grown(desired: Counts, current: Counts, room: Counts) -> dict[Role, int]:
    """How many workers the wanted revision may have.

    Args:
        desired: Workers asked for.
        current: What the revision has.
        room: What it may have, as far as the workers of other revisions leave room.
    """
    reach = {role: min(count, max(current.get(role, 0), room[role])) for role, count in desired.items()}
    goal = stage(desired, _reached(desired, reach))
    return {role: min(count, max(current.get(role, 0), goal[role])) for role, count in desired.items()}


def kept(desired: Counts, serving: Counts, limits: Mapping[Role, Bounds], *, splits: bool) -> dict[Role, int]:
    """How many workers the other revisions have to keep together; all 0 where none is needed any more.

    Args:
        desired: Workers asked for.
        serving: Those of the wanted revision that serve: none where it lacks a pair.
        limits: By role.
        splits: Both revisions can have a pair at once. Where they can't, the others go before the wanted one comes.
    """
    reached = _reached(desired, serving)
    asked_to_stop = not all(desired.values())
    if asked_to_stop or not (reached or splits):
        return dict.fromkeys(desired, 0)
    least = 0 if reached else 1
    needed = {
        role: max(least, count - limits[role].unavailable - (serving[role] if reached else 0))
        for role, count in desired.items()
    }
    if not any(needed.values()):
        return dict.fromkeys(desired, 0)
    size = max(desired.values(), default=0)
    share = min(
        (k for k in range(size + 1) if all(_share(n, k, size) >= min(needed[role], n) for role, n in desired.items())),
        default=size,
    )
    most = space(desired, serving, limits)
    return {role: max(1, needed[role], min(_share(count, share, size), most[role])) for role, count in desired.items()}


def space(desired: Counts, serving: Counts, limits: Mapping[Role, Bounds]) -> dict[Role, int]:
    """How many workers other revisions may have together, so that the wanted one can reach its next stage."""
    following = stage(desired, _reached(desired, serving) + 1)
    return {role: count + limits[role].surge - following[role] for role, count in desired.items()}


def stage(desired: Counts, k: int) -> dict[Role, int]:
    """The wanted revision's workers at stage k, of as many as the largest role has workers; at 0 none."""
    size = max(desired.values(), default=0)
    if k <= 0:
        return dict.fromkeys(desired, 0)
    return {role: count if k >= size else min(count, max(1, count * k // size)) for role, count in desired.items()}


def _reached(desired: Counts, counts: Counts) -> int:
    """The stage for which these workers are enough."""
    reached = 0
    for k in range(1, max(desired.values(), default=0) + 1):
        if any(counts.get(role, 0) < count for role, count in stage(desired, k).items()):
            break
        reached = k
    return reached


def _share(count: int, k: int, size: int) -> int:
    return ceil(count * k / size) if size else 0


def _bounds(rollout: RolloutSpec, count: int) -> Bounds:
    surge = _of(rollout.max_surge, count, up=True)
    unavailable = min(_of(rollout.max_unavailable, count, up=False), count)
    return Bounds(surge, unavailable if surge else max(unavailable, 1))


def _of(given: int | str, count: int, *, up: bool) -> int:
    if isinstance(given, int):
        return given
    scaled = int(given.removesuffix("%")) * count
    return -(-scaled // 100) if up else scaled // 100
