"""Ten thousand schedules ask for the same few specs again and again: what only the spec decides is rendered once."""

from collections.abc import Callable, Hashable, Iterable
from importlib import import_module
from typing import Any

import pytest
from tandem_api.inference_service import InferenceService, VersionSpec
from tandem_api.inference_service.status import VersionState
from tandem_operator.planning import children
from tandem_operator.planning import course as course_module
from tandem_operator.planning.course import Course
from tandem_operator.planning.installation import Installation
from tandem_operator.planning.resolving import EffectiveVersion, Settings
from tandem_operator.planning.wanted import RevisionPlan, RolePlan


def remember(patch: pytest.MonkeyPatch) -> None:
    """Lets the planner's renderers remember what they made, for as long as `patch` lasts."""
    # The package's function of that name hides the module.
    plan_module = import_module("tandem_operator.planning.plan")
    known: dict[Hashable, Any] = {}
    alive: list[Any] = []
    """What the keys' identities belong to."""

    def once(key: Hashable, made_of: Iterable[Any], make: Callable[[], Any]) -> Any:
        if key not in known:
            alive.extend(made_of)
            known[key] = make()
        return known[key]

    pin, plan_revision, wanted = course_module.pin, course_module.plan_revision, plan_module._wanted
    deployment = children.deployment

    def pin_once(
        service: InferenceService, version: VersionSpec, settings: Settings, last: VersionState | None, sources: Any
    ) -> Any:
        memory = (last.revision, tuple((one.name, one.asked) for one in last.revisions)) if last else None
        key = ("pin", id(service.spec), version.name, memory)
        return once(key, [service.spec], lambda: pin(service, version, settings, last, sources))

    def plan_once(version: EffectiveVersion, weight: int, settings: Settings, revision: str | None = None) -> Any:
        key = ("plan", id(version), weight, revision)
        return once(key, [version], lambda: plan_revision(version, weight, settings, revision))

    def wanted_once(service: InferenceService, courses: Iterable[Course], installation: Installation) -> Any:
        steered = tuple(courses)
        plans = [course.plan for course in steered]
        key = ("wanted", id(service.spec), tuple((id(one.plan), one.scaled) for one in steered))
        return once(key, [service.spec, *plans], lambda: tuple(wanted(service, steered, installation)))

    def deployment_once(plan: RevisionPlan, role: RolePlan, replicas: int) -> Any:
        key = ("deployment", id(plan), role.role, replicas)
        return once(key, [plan], lambda: {**deployment(plan, role, replicas), "spec": {"replicas": replicas}})

    patch.setattr(children, "deployment", deployment_once)
    patch.setattr(course_module, "pin", pin_once)
    patch.setattr(course_module, "plan_revision", plan_once)
    patch.setattr(plan_module, "_wanted", wanted_once)
