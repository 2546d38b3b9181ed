"""The next step of one version, from the revisions that run to the one that is wanted.

Level-based: it looks at what is there, at what routers do, and at what was last said in status, and finds the same step
again however often it is asked. So it needs no memory of rollouts, and a change of mind in the middle (a revert,
another change, another scale) is nothing special: the wanted revision grows as the bounds allow, the others shrink.

Safe for requests by three rules. Workers that serve go only as far as others that serve allow. A revision's last pair
goes only after every router has stopped beginning requests on it, which `traffic: false` in status asks of them. Who
was never let in to serve may go at any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tandem_api.inference_service import RolloutSpec
from tandem_api.inference_service.status import VersionState

from tandem_operator.planning.resolving import Role
from tandem_operator.planning.routers import Routers
from tandem_operator.planning.staff import Revision
from tandem_operator.planning.stepping import Bounds, Counts, bounds, grown, kept, space


@dataclass(frozen=True, slots=True)
class Goal:
    """What a version is to be."""

    version: str
    revision: str
    desired: Counts
    """Workers asked for, by role of the revision."""
    rollout: RolloutSpec


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next for a version."""

    replicas: Mapping[tuple[str, Role], int] = field(default_factory=dict)
    """By revision and role: workers to ask for."""
    traffic: Mapping[str, bool] = field(default_factory=dict)
    """By revision, those that requests prefer first: whether requests may begin on it."""
    held: bool = False
    """No pair serves, and one is to come: requests wait."""
    gone: tuple[str, ...] = ()
    """Revisions of which nothing is left but objects to delete."""
    waits: bool = False
    """Something waits for the routers to act."""


def advance(
    goal: Goal,
    found: Mapping[str, Revision],
    routers: Routers,
    last: VersionState | None,
    *,
    hopeless: bool = False,
) -> Step:
    """The next step of a version that the spec has.

    Args:
        goal: What is wanted.
        found: The revisions that there are, by name.
        routers: What they say.
        last: The version's status, as it was last written.
        hopeless: The wanted revision will not come up as it is: nobody is to wait for it.
    """
    wanted = found.get(goal.revision) or Revision(goal.version, goal.revision, {})
    others = _by_merit(revision for revision in found.values() if revision.name != goal.revision)
    gone = tuple(other.name for other in others if other.gone)
    others = [other for other in others if not other.gone]
    running = [other for other in others if other.asked]
    usable = _usable(goal, wanted, routers)
    limits = bounds(goal.rollout, goal.desired)
    growth = _growth(goal, wanted, others, limits)
    replicas: dict[tuple[str, Role], int] = {(goal.revision, role): count for role, count in growth.items()}

    serving = {role: wanted.role(role).ready if usable else 0 for role in goal.desired}
    splits = _splits(goal, wanted, running, limits)
    keep = kept(goal.desired, serving, limits, splits=splits)
    shares = _shares(keep, space(goal.desired, serving, limits), running)
    traffic = {goal.revision: True}
    waits = False
    for other in others:
        share = shares.get(other.name)
        traffic[other.name] = share is not None
        if share is None:
            leaves = not other.may_serve or _stopped(other, routers, last)
            waits = waits or not leaves
            share = {role: 0 if leaves else staff.replicas for role, staff in other.roles.items()}
        replicas |= {(other.name, role): count for role, count in share.items()}

    serves = usable or any(
        traffic[other.name] and routers.use(other.version, other.name, other.roles) for other in running
    )
    comes = all(goal.desired.values()) and not hopeless
    held = not serves and comes and (bool(last and last.held) or not splits)
    return Step(replicas, traffic, held, gone, waits)


def withdraw(found: Iterable[Revision], routers: Routers, *, serves_on: bool) -> Step:
    """The next step of a version that the spec no longer has.

    Args:
        found: Its revisions.
        routers: What they say.
        serves_on: No other version can serve yet: it stays until one can.
    """
    left = [revision for revision in _by_merit(found) if not revision.gone]
    gone = tuple(revision.name for revision in found if revision.gone)
    if serves_on:
        kept_as_is = {
            (revision.name, role): staff.replicas for revision in left for role, staff in revision.roles.items()
        }
        return Step(kept_as_is, {revision.name: revision.asked > 0 for revision in left}, gone=gone)
    replicas: dict[tuple[str, Role], int] = {}
    waits = False
    for revision in left:
        leaves = not revision.may_serve or routers.leave(revision.version, revision.name)
        waits = waits or not leaves
        replicas |= {(revision.name, role): 0 if leaves else staff.replicas for role, staff in revision.roles.items()}
    return Step(replicas, {revision.name: False for revision in left}, gone=gone, waits=waits)


def rest(found: Mapping[str, Revision], last: VersionState | None) -> Step:
    """All stays as it is: what there is to decide lacks something yet."""
    stopped = {state.name for state in last.revisions if not state.traffic} if last else set()
    left = [revision for revision in _by_merit(found.values()) if not revision.gone]
    return Step(
        {(revision.name, role): staff.replicas for revision in left for role, staff in revision.roles.items()},
        {revision.name: revision.name not in stopped for revision in left},
        held=bool(last and last.held),
        gone=tuple(revision.name for revision in found.values() if revision.gone),
    )


def _usable(goal: Goal, wanted: Revision, routers: Routers) -> bool:
    """It has a pair, by Kubernetes' word and by every router's."""
    paired = all(wanted.role(role).ready for role in goal.desired)
    return paired and routers.reachable and routers.use(goal.version, goal.revision, goal.desired)


def _growth(
    goal: Goal, wanted: Revision, others: Sequence[Revision], limits: Mapping[Role, Bounds]
) -> Mapping[Role, int]:
    """Workers of the wanted revision: all of them where it is alone, else what room the others leave."""
    taken = {role: sum(other.role(role).existing for other in others) for role in goal.desired}
    if not any(other.asked for other in others) and not any(taken.values()):
        return goal.desired
    current = {role: wanted.role(role).replicas for role in goal.desired}
    room = {role: count + limits[role].surge - taken[role] for role, count in goal.desired.items()}
    return grown(goal.desired, current, room)


def _splits(goal: Goal, wanted: Revision, running: Sequence[Revision], limits: Mapping[Role, Bounds]) -> bool:
    """The wanted revision and another can have a pair at the same time.

    Only without surge can it be otherwise: one worker of a role can't be divided.
    """
    return all(
        count + limits[role].surge > 1
        or wanted.role(role).replicas
        or not any(other.role(role).replicas for other in running)
        for role, count in goal.desired.items()
    )


def _by_merit(revisions: Iterable[Revision]) -> list[Revision]:
    """Those that serve first, or may serve again, then those with more workers, then the older ones."""
    return sorted(revisions, key=lambda one: (not one.may_serve, not one.ready, -one.asked, one.created, one.name))


def _shares(keep: Counts, room: Counts, running: Sequence[Revision]) -> dict[str, dict[Role, int]]:
    """Which revisions stay, and with how many workers. Each of them has a pair; the others go altogether.

    Args:
        keep: Workers that have to serve on, of all of them together.
        room: Workers that there may be, so that the wanted revision can grow.
        running: The revisions; those that are better kept first.
    """
    # Whom requests need stays, though it be too many: a scale may have left no room for it.
    missing, left = dict(keep), {role: max(count, keep[role]) for role, count in room.items()}
    shares: dict[str, dict[Role, int]] = {}
    for other in running:
        if not other.may_serve or not any(count > 0 for count in missing.values()):
            continue
        share = {
            # A role that the wanted revision lacks stays as it is, for as long as its partners need it.
            role: max(1, min(staff.ready, missing[role], left[role])) if role in missing else staff.replicas
            for role, staff in other.roles.items()
        }
        if any(share[role] > left[role] for role in missing if role in share):
            continue
        shares[other.name] = share
        for role in missing:
            missing[role] -= min(share.get(role, 0), other.role(role).ready)
            left[role] -= share.get(role, 0)
    # Those that are not ready at the moment may be so soon.
    for other in running:
        for role, count in shares.get(other.name, {}).items():
            if role in missing:
                more = max(0, min(other.role(role).replicas - count, missing[role], left[role]))
                shares[other.name][role] = count + more
                missing[role] -= more
                left[role] -= more
    return shares


def _stopped(other: Revision, routers: Routers, last: VersionState | None) -> bool:
    """Status says that no request is to begin on it, and routers act on that."""
    said = last is not None and all(state.name != other.name or not state.traffic for state in last.revisions)
    return said and routers.leave(other.version, other.name)
