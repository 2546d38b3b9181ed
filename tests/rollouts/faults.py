"""Faults planted into the planner, to see that the schedules would find them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tandem_operator.planning import course, rollout, staff
from tandem_operator.planning.routers import Routers
from tandem_operator.planning.stepping import Bounds

Fault = Callable[[pytest.MonkeyPatch], None]


def pair_across_revisions(patch: pytest.MonkeyPatch) -> None:
    """A prefill worker of one revision and a decode worker of another count as a pair."""
    sound = rollout.advance

    def usable(goal: rollout.Goal, found: Any, _routers: Routers) -> bool:
        return all(any(one.role(role).ready for one in found.values()) for role in goal.desired)

    def advance(goal: rollout.Goal, found: Any, routers: Routers, last: Any, **more: Any) -> rollout.Step:
        patch.setattr(rollout, "_usable", lambda _goal, _wanted, _routers: usable(goal, found, routers))
        return sound(goal, found, routers, last, **more)

    patch.setattr(course, "advance", advance)


def delete_before_ready(patch: pytest.MonkeyPatch) -> None:
    """Workers count as serving as soon as they exist."""
    patch.setattr(staff.Staff, "ready", property(lambda self: min(self.replicas, len(self.live))))
    patch.setattr(staff.Revision, "ready", property(lambda self: all(one.ready for one in self.roles.values())))
    patch.setattr(rollout, "_usable", lambda goal, wanted, _: all(wanted.role(role).ready for role in goal.desired))


def lose_a_revert(patch: pytest.MonkeyPatch) -> None:
    """While a revision replaces another, that other can't be wanted again."""
    sound = course.pin

    def pin(service: Any, version: Any, settings: Any, last: Any, sources: Any) -> Any:
        pinned = sound(service, version, settings, last, sources)
        if last is not None and last.previous_revision == getattr(pinned, "revision", None):
            return replace(pinned, revision=last.revision)
        return pinned

    patch.setattr(course, "pin", pin)


def not_wait_for_routers(patch: pytest.MonkeyPatch) -> None:
    """A revision's last pair goes as soon as status says so, before the routers act on it."""
    patch.setattr(rollout, "_stopped", lambda *_: True)


def let_in_before_routers_know(patch: pytest.MonkeyPatch) -> None:
    """Workers are let in to serve though not every router has a session with them."""
    patch.setattr(Routers, "reach", lambda *_: True)
    patch.setattr(Routers, "use", lambda *_: True)


def forget_the_surge(patch: pytest.MonkeyPatch) -> None:
    """The wanted revision comes up whole at once."""
    patch.setattr(rollout, "grown", lambda desired, *_: dict(desired))


def take_too_many(patch: pytest.MonkeyPatch) -> None:
    """One more worker may be missing than maxUnavailable says."""
    sound = rollout.bounds

    def bounds(*given: Any) -> dict[Any, Bounds]:
        return {role: Bounds(one.surge, one.unavailable + 1) for role, one in sound(*given).items()}

    patch.setattr(rollout, "bounds", bounds)


def fight_the_autoscaler(patch: pytest.MonkeyPatch) -> None:
    """The operator holds on to the count that it knows while an autoscaler owns the replicas."""
    sound = course.desired
    patch.setattr(course, "desired", lambda spec, _scaler, target, last: sound(spec, None, target, last))


def hold_nobody(patch: pytest.MonkeyPatch) -> None:
    """Where no pair is left for a moment, routers are not told to let requests wait."""
    sound = course.advance
    patch.setattr(course, "advance", lambda *given, **more: replace(sound(*given, **more), held=False))


FAULTS: tuple[Fault, ...] = (
    pair_across_revisions,
    delete_before_ready,
    lose_a_revert,
    not_wait_for_routers,
    let_in_before_routers_know,
    forget_the_surge,
    take_too_many,
    fight_the_autoscaler,
    hold_nobody,
)
