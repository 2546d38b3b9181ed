"""The operator's decision: from what a cluster holds, the next step towards what a service wants."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import InferenceServiceStatus

from tandem_operator.planning import children
from tandem_operator.planning.actions import Delete, Gate, Plan, Scale
from tandem_operator.planning.autoscaling import autoscaler
from tandem_operator.planning.conditions import Scene
from tandem_operator.planning.course import Course, leave, steer
from tandem_operator.planning.drift import drifted
from tandem_operator.planning.experimenting import Experiment, experiment, told
from tandem_operator.planning.experiments.conducting import record_map, weights
from tandem_operator.planning.installation import Installation
from tandem_operator.planning.observed import Autoscaler, Child, Observed
from tandem_operator.planning.policies import policies
from tandem_operator.planning.rehearsal import rehearse
from tandem_operator.planning.reporting import report, transitions
from tandem_operator.planning.resolving import resolve
from tandem_operator.planning.routers import Routers, listen
from tandem_operator.planning.splitting import split
from tandem_operator.planning.staff import Revision, revisions
from tandem_operator.planning.trouble import waiting


def plan(resource: InferenceService, observed: Observed, now: float, installation: Installation) -> Plan:
    """What to do next for a service.

    Pure: the same arguments give the same plan. A plan that writes nothing says that all is as it should be, or that
    something is awaited (`awaits_routers`, `again_after`).

    Args:
        resource: The service, with the status and the resource version that were last read.
        observed: What the cluster holds for it.
        now: Unix seconds.
        installation: The operator's own.
    """
    if resource.metadata.deletion_timestamp:
        return Plan()
    service = rehearse(resource) if installation.rehearse else resource
    routers = listen(observed.routers, service.metadata.namespace, service.metadata.name, now)
    last = service.status.versions if service.status else ()
    found = revisions(
        observed, {(one.name, state.name) for one in last for state in one.revisions if state.disaggregated}
    )
    courses = _courses(service, observed, found, routers, installation, now)
    tried = experiment(service, courses, observed, installation, now)
    courses = _weighed(courses, service, tried)
    scene = Scene(service, _told(courses, observed), routers, observed.name_owner, tried)
    status = report(scene, installation.url, now)
    changed = status != resource.status
    wanted = () if observed.name_owner else (*_wanted(service, courses, installation), *_kept(service, tried))
    return Plan(
        apply=tuple(_apply(service, observed, courses, wanted)),
        scale=tuple(_scale(courses)),
        delete=tuple(_delete(observed, courses, wanted, resource.status)),
        gates=tuple(_gates(courses, routers)),
        status=status if changed else None,
        events=(*transitions(resource.status, status), *told(service, tried)) if changed else (),
        resolve=tuple(course.unknown.resolve for course in courses if course.unknown and course.unknown.resolve),
        follow=tuple(dict.fromkeys(course.follow for course in courses if course.follow)),
        uses=tuple(sorted(_uses(courses))),
        inquire=tried.inquire if tried else None,
        tell=tried.tell if tried else None,
        awaits_routers=_awaits(courses, routers, status),
        again_after=min(_deadlines(courses, routers, tried, now), default=None),
    )


def _courses(
    service: InferenceService,
    observed: Observed,
    found: Mapping[str, Mapping[str, Revision]],
    routers: Routers,
    installation: Installation,
    now: float,
) -> tuple[Course, ...]:
    """Each version of the spec, then those that it no longer has."""
    last = {state.name: state for state in service.status.versions} if service.status else {}
    courses = []
    if observed.name_owner is None:
        courses = [
            steer(
                service,
                version,
                weight,
                installation.settings,
                found.get(version.name, {}),
                observed,
                routers,
                last.get(version.name),
                now,
            )
            for version, weight in split(service, _share(service))
        ]
    taken_over = routers.reachable and any(course.serves and course.weight for course in courses)
    serves_on = observed.name_owner is None and not taken_over
    known = {course.name for course in courses}
    courses += [
        leave(name, found[name], routers, last.get(name), serves_on=serves_on)
        for name in sorted(found)
        if name not in known
    ]
    return tuple(courses)


def _share(service: InferenceService) -> int | None:
    """What the challenger had; its experiment says what it gets."""
    if service.spec.experiment is None:
        return None
    return service.status.experiment.weight if service.status and service.status.experiment else 0


def _weighed(courses: tuple[Course, ...], service: InferenceService, tried: Experiment | None) -> tuple[Course, ...]:
    """With the weights that the experiment gives."""
    if tried is None or service.spec.experiment is None:
        return courses
    decided = weights(service.spec.experiment, tried.weight)
    return tuple(
        course if course.index is None else replace(course, weight=decided.get(course.name, 0)) for course in courses
    )


def _told(courses: Iterable[Course], observed: Observed) -> tuple[Course, ...]:
    """What status speaks of: a version that the spec no longer has only for as long as it is to serve."""
    if observed.name_owner is not None:
        return ()
    return tuple(course for course in courses if course.index is not None or any(course.step.traffic.values()))


def _kept(service: InferenceService, tried: Experiment | None) -> tuple[Mapping[str, Any], ...]:
    """What is to be remembered of the experiment."""
    return children.owned(service, [record_map(service, tried.record)] if tried and tried.record else [])


def _wanted(service: InferenceService, courses: Iterable[Course], installation: Installation) -> Iterator[Any]:
    """All objects but Deployments and an experiment's record, as they should be."""
    effective = [resolve(service, version, installation.settings) for version in service.spec.versions]
    manifests = [children.account(service), *policies(service, effective, installation)]
    for course in courses:
        if course.plan is None:
            continue
        for role in course.plan.roles:
            manifests += children.of_role(course.plan, role)
            if role.role in course.scaled:
                manifests.append(autoscaler(course.plan, role))
    yield from children.owned(service, manifests)


def _apply(
    service: InferenceService, observed: Observed, courses: Iterable[Course], wanted: Iterable[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """What is missing, or is not as it should be; Deployments last, when all that their pods need is there."""
    there: dict[tuple[str, str], Child | Autoscaler] = {(child.kind, child.name): child for child in observed.children}
    there |= {("HorizontalPodAutoscaler", scaler.name): scaler for scaler in observed.autoscalers}
    for manifest in wanted:
        found = there.get((manifest["kind"], manifest["metadata"]["name"]))
        if found is None or (not children.fixed(manifest) and _differs(found, manifest)):
            yield manifest
    running = {deployment.name for deployment in observed.deployments}
    for course in courses:
        if course.plan is None or course.aside:
            continue
        for role in course.plan.roles:
            if role.name not in running:
                replicas = course.step.replicas[(course.plan.revision, role.role)]
                yield from children.owned(service, [children.deployment(course.plan, role, replicas)])


def _differs(found: Child | Autoscaler, manifest: Mapping[str, Any]) -> bool:
    """Another manifest was applied, or other hands have changed what was."""
    return found.applied != children.applied(manifest) or drifted(found.fields, manifest)


def _scale(courses: Iterable[Course]) -> Iterator[Scale]:
    for course in courses:
        for (revision, role), replicas in course.step.replicas.items():
            found = course.found.get(revision)
            deployment = found.role(role).deployment if found else None
            if deployment is not None and deployment.replicas != replicas:
                yield Scale(deployment.name, deployment.uid, replicas, deployment.resource_version)


def _delete(
    observed: Observed,
    courses: Iterable[Course],
    wanted: Iterable[Mapping[str, Any]],
    last: InferenceServiceStatus | None,
) -> Iterator[Delete]:
    """What belongs to revisions of which nothing is left, and what is wanted no more."""
    known = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    alive = {(course.name, name) for course in courses for name in course.found if name not in course.step.gone}
    for deployment in observed.deployments:
        if not deployment.deleting and (deployment.version, deployment.revision) not in alive:
            yield Delete("Deployment", deployment.name, deployment.uid, deployment.resource_version)
    for child in observed.children:
        unused = (child.version, child.revision) not in alive if child.revision else not observed.name_owner
        if unused and (child.kind, child.name) not in known:
            yield Delete(child.kind, child.name, child.uid)
    keep = {course.name for course in courses if course.aside and not _recorded(course, last)}
    for scaler in observed.autoscalers:
        if ("HorizontalPodAutoscaler", scaler.name) not in known and scaler.version not in keep:
            yield Delete("HorizontalPodAutoscaler", scaler.name, scaler.uid)


def _uses(courses: Iterable[Course]) -> set[str]:
    """Of every revision that has workers, and of those that are wanted."""
    wanted = {course.pinned.registered for course in courses if course.pinned}
    return {one for one in (*wanted, *(c.registered(name) for c in courses for name in c.step.traffic)) if one}


def _recorded(course: Course, last: InferenceServiceStatus | None) -> bool:
    """Status holds the counts that the autoscalers last asked for."""
    state = next((one for one in last.versions if one.name == course.name), None) if last else None
    if state is None:
        return False
    told = {"prefill": state.prefill, "decode": state.decode}
    return all((status := told[role]) is not None and status.desired == n for role, n in course.desired.items())


def _gates(courses: Iterable[Course], routers: Routers) -> Iterator[Gate]:
    for pod in _ungated(courses):
        if routers.reach(pod):
            yield Gate(pod.name, pod.uid)


def _ungated(courses: Iterable[Course]) -> Iterator[Any]:
    """Workers that are up and wait to be let in. Those that are about to go wait for nothing."""
    for course in courses:
        for name, revision in course.found.items():
            for staff in revision.roles.values():
                if staff.replicas and course.step.traffic.get(name):
                    yield from (pod for pod in staff.live if pod.containers_ready and not pod.routable)


def _awaits(courses: Iterable[Course], routers: Routers, status: InferenceServiceStatus) -> bool:
    """Workers or users wait for what routers are about to do."""
    known = tuple(courses)
    unheard = any(condition.reason == "NotInRouters" for condition in status.conditions)
    unserved = any(revision.ready for course in known if not course.serves for revision in course.found.values())
    waiting = any(course.step.waits for course in known) or any(True for _ in _ungated(known))
    return bool(routers.silent) or unheard or unserved or waiting


def _deadlines(courses: Iterable[Course], routers: Routers, tried: Experiment | None, now: float) -> Iterator[float]:
    if tried is not None and tried.again_after is not None:
        yield tried.again_after
    if routers.patience is not None:
        yield routers.patience
    for course in courses:
        if course.obstacle is not None:
            yield course.obstacle.again_after
        if course.plan and (wanted := course.found.get(course.plan.revision)):
            yield from waiting(wanted, now)
