"""The status of a service: the truth about it for people, and the word to the routers."""

from collections.abc import Iterator

from tandem_api.inference_service.status import InferenceServiceStatus, RoleStatus, Summary

from tandem_operator.planning.actions import Event
from tandem_operator.planning.conditions import Scene, dated, findings
from tandem_operator.planning.course import Course, state
from tandem_operator.planning.names import ROLE, SERVICE
from tandem_operator.planning.resolving import ROLES, Role

_EVENTFUL = ("Ready", "Progressing", "ScalingReady", "Degraded")
_TROUBLES = ("Degraded",)
"""Conditions that are better not True."""


def report(scene: Scene, url: str, now: float) -> InferenceServiceStatus:
    """The whole status."""
    service, last = scene.service, scene.service.status or InferenceServiceStatus()
    name, generation = service.metadata.name, service.metadata.generation
    total = sum(course.weight for course in scene.courses if course.serves)
    takers = tuple(course.name for course in scene.courses if course.serves and course.weight)
    versions = tuple(
        state(
            course,
            name,
            round(100 * course.weight / total) if course.serves and total else 0,
            takers if course.weight and not course.serves else (),
        )
        for course in scene.courses
    )
    roles = {role: _role(scene, role) for role in ROLES}
    return InferenceServiceStatus(
        observed_generation=generation,
        conditions=dated(findings(scene), last.conditions, generation, now),
        url=url,
        versions=versions,
        experiment=scene.experiment.state if scene.experiment else None,
        prefill=roles["prefill"],
        decode=roles["decode"],
        summary=Summary(
            versions=" ".join(f"{course.name}={course.weight}" for course in scene.courses),
            prefill=_column(roles["prefill"]),
            decode=_column(roles["decode"]),
        ),
    )


def transitions(before: InferenceServiceStatus | None, after: InferenceServiceStatus) -> tuple[Event, ...]:
    """Events for what holds no longer, or for another reason: of the conditions that people act on."""
    known = {condition.type: condition for condition in before.conditions} if before else {}
    events = [*_activations(before, after)]
    for condition in after.conditions:
        former = known.get(condition.type)
        if condition.type not in _EVENTFUL or (
            former is not None and (former.status, former.reason) == (condition.status, condition.reason)
        ):
            continue
        if former is None and condition.status != "False":
            continue
        good = (condition.status == "True") != (condition.type in _TROUBLES)
        if former is None and good:
            continue
        starts = condition.type == "Ready" and condition.reason == "WorkersStarting"
        events.append(Event("Normal" if good or starts else "Warning", condition.reason, condition.message))
    return tuple({(event.reason, event.message): event for event in events}.values())


def _activations(before: InferenceServiceStatus | None, after: InferenceServiceStatus) -> Iterator[Event]:
    """Versions whose source stands for another registered version than before."""
    known = {version.name: version for version in before.versions} if before else {}
    for version in after.versions:
        former = known.get(version.name)
        if former is None or former.follows != version.follows or former.registered in ("", version.registered):
            continue
        yield Event(
            "Normal",
            "VersionActivated",
            f"version {version.name}: {version.follows} stands for {version.registered}, before for "
            f"{former.registered}: its workers are rolled over.",
        )


def _role(scene: Scene, role: Role) -> RoleStatus | None:
    concerned: list[Course] = [course for course in scene.courses if role in course.desired or course.live(role)]
    if not concerned:
        return None
    return RoleStatus(
        replicas=sum(course.live(role) for course in concerned),
        desired=sum(course.desired.get(role, 0) for course in concerned),
        ready=sum(course.ready(role) for course in concerned),
        selector=f"{SERVICE}={scene.service.metadata.name},{ROLE}={role}",
    )


def _column(role: RoleStatus | None) -> str:
    return "" if role is None else f"{role.ready}/{role.desired}"
