"""The conditions of a service: what holds, why, and what to do where it doesn't.

Each is a pure reading of the courses and of what routers say. Reasons are for programs and change seldom; messages are
for people. Nothing in them changes while the state doesn't, so that a steady state writes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.quantities import format_duration
from tandem_api.inference_service.status import Condition

from tandem_operator.planning.course import Course
from tandem_operator.planning.experimenting import Experiment, describe
from tandem_operator.planning.resolving import ROLES, Role
from tandem_operator.planning.routers import Routers

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its times."""

    type: str
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True)
class Scene:
    """What conditions are read from."""

    service: InferenceService
    courses: Sequence[Course]
    """In the order of the split; versions that the spec no longer has come last."""
    routers: Routers
    name_owner: str | None
    experiment: Experiment | None = None

    @property
    def was_ready(self) -> bool:
        """The last status said Ready."""
        last = self.service.status.conditions if self.service.status else ()
        return any(condition.type == "Ready" and condition.status == "True" for condition in last)

    @property
    def versions(self) -> tuple[Course, ...]:
        """Those that the spec has."""
        return tuple(course for course in self.courses if course.index is not None)


def findings(scene: Scene) -> tuple[Finding, ...]:
    """All conditions."""
    return (
        _ready(scene),
        *(_role_ready(scene, role) for role in ROLES),
        _router_ready(scene),
        _scaling_ready(scene),
        _progressing(scene),
        _degraded(scene),
        *((_concluded(scene.service, scene.experiment),) if scene.experiment else ()),
    )


def dated(found: Iterable[Finding], last: Iterable[Condition], generation: int, now: float) -> tuple[Condition, ...]:
    """As status tells them: the time is of the last change of what holds."""
    before = {condition.type: condition for condition in last}
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return tuple(
        Condition(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=one.message,
            last_transition_time=known.last_transition_time
            if (known := before.get(one.type)) is not None and known.status == one.status
            else stamp,
            observed_generation=generation,
        )
        for one in found
    )


def _ready(scene: Scene) -> Finding:
    made = _Made("Ready")
    if scene.name_owner is not None:
        return _name_taken(made, scene)
    routing = _router_ready(scene)
    # Who was ready stays so while every router that answers can serve, though it may still act on former weights.
    if routing.status != "True" and not (scene.was_ready and scene.routers.heard):
        return made.no(routing.reason, routing.message)
    serving = [course for course in scene.courses if course.serves and course.weight > 0]
    if not serving:
        return _why_not(made, scene)
    missing = [course.name for course in scene.versions if course.weight > 0 and not course.serves]
    if missing:
        has, its = ("has" if len(serving) == 1 else "have"), ("its" if len(missing) == 1 else "their")
        message = f"{_names(missing)} can't serve: {_names(course.name for course in serving)} {has} {its} share."
        return made.yes("PartlyServing", message)
    return made.yes("Serving", "Every router has a pair of workers for every request.")


def _why_not(made: "_Made", scene: Scene) -> Finding:
    weighted = [course for course in scene.versions if course.weight > 0]
    if held := [course for course in weighted if course.step.held]:
        wait = format_duration(scene.service.spec.rollout.queue_timeout)
        return made.no(
            "Held",
            f"{_version(held[0])}: maxSurge 0 leaves no pair until revision {_revision(held[0])} is up; "
            f"requests wait up to {wait}, then get 503.",
        )
    if all(not all(course.desired.values()) for course in weighted if course.plan):
        return made.no("NoReplicas", "No workers are asked for. Set replicas of at least 1 for every role.")
    for course in weighted:
        if course.obstacle is not None:
            return made.no(course.obstacle.reason, _advise(scene, course))
        if unresolved := _unresolved(made, course):
            return unresolved
        if course.unknown is not None:
            return made.no("ResolvingSource", f"{_version(course)}: finding out what {course.unknown.source} is.")
    return made.no("WorkersStarting", _missing(scene) or "Workers start.")


def _role_ready(scene: Scene, role: Role) -> Finding:
    made = _Made(f"{role.capitalize()}Ready")
    if scene.name_owner is not None:
        return _name_taken(made, scene)
    concerned = [course for course in scene.versions if role in course.desired]
    if not concerned:
        if any(course.unknown for course in scene.versions):
            return made.unknown("ResolvingSource", "It is not known yet what to run.")
        return made.yes("NotUsed", f"There are no {role} workers: decode workers serve alone.")
    short = [
        f"{_version(course)} has {course.ready(role)} of {course.desired[role]}"
        for course in concerned
        if course.ready(role) < course.desired[role]
    ]
    if short:
        return made.no("WorkersMissing", f"{role} workers that routers can use: {'; '.join(short)}.")
    if not any(course.desired[role] for course in concerned):
        return made.no("NoReplicas", f"No {role} workers are asked for.")
    return made.yes("AllRoutable", f"Routers can use every {role} worker.")


def _router_ready(scene: Scene) -> Finding:
    made = _Made("RouterReady")
    if scene.name_owner is not None:
        return _name_taken(made, scene)
    routers = scene.routers
    if routers.silent:
        return made.no("RouterSilent", f"Router {routers.silent[0]} does not answer the operator.")
    if not routers.heard:
        return made.no("NoRouter", "No router is ready. Look at the router's pods.")
    weights = {course.name: course.weight for course in scene.courses}
    for hearing in routers.heard:
        if {name: version.weight for name, version in hearing.versions.items()} != weights:
            return made.no("NotInRouters", f"Router {hearing.router} does not act on the versions' weights yet.")
    return made.yes("AllAct", "Every router acts on the versions and their weights.")


def _scaling_ready(scene: Scene) -> Finding:
    made = _Made("ScalingReady")
    if scene.name_owner is not None:
        return _name_taken(made, scene)
    automatic = [
        (course, role.role)
        for course in scene.versions
        if course.plan
        for role in course.plan.roles
        if role.spec.autoscaling is not None
    ]
    if not automatic:
        return made.yes("Fixed", "The manifest says how many workers there are.")
    for course, role in automatic:
        scaler = course.scalers.get(role)
        where = f"{_version(course)}, {role}"
        if course.aside or role not in course.scaled:
            count = course.desired.get(role, 0)
            return made.no("SetAside", f"{where}: a rollout has the replicas; {count} are kept until it is done.")
        if scaler is None or scaler.active is None:
            return made.unknown("Waiting", f"{where}: the autoscaler has not decided anything yet.")
        if not scaler.active:
            advice = "An external metrics adapter has to serve tandem_queue_depth, tandem_kv_use and tandem_ttft."
            return made.no("NoMetrics", f"{where}: {scaler.message.rstrip('.') or 'metrics are missing'}. {advice}")
    return made.yes("Autoscaling", "Autoscalers follow the load.")


def _progressing(scene: Scene) -> Finding:
    made = _Made("Progressing")
    if scene.name_owner is not None:
        return _name_taken(made, scene)
    for course in scene.versions:
        if course.obstacle is not None and course.obstacle.fatal and not _complete(course):
            return made.no(course.obstacle.reason, _advise(scene, course))
    for course in scene.versions:
        if unresolved := _unresolved(made, course):
            return unresolved
        if course.unknown is not None:
            return made.yes("ResolvingSource", f"{_version(course)}: finding out what {course.unknown.source} is.")
        if course.rolling or course.aside:
            return made.yes("RollingOut", _rolling(scene, course))
    if missing := _missing(scene):
        placed = next((course for course in scene.versions if course.obstacle is not None), None)
        return made.yes("Starting", missing if placed is None else _advise(scene, placed))
    if leaving := [course.name for course in scene.courses if course.index is None]:
        return made.yes("Leaving", f"Workers of {_names(leaving)} finish their requests and go.")
    if any(course.others for course in scene.versions):
        return made.yes("Draining", "Workers of former revisions finish their requests and go.")
    return made.yes("Complete", "All workers are as the manifest wants them.")


def _degraded(scene: Scene) -> Finding:
    made = _Made("Degraded")
    if scene.name_owner is not None:
        return made.no("NotServing", "The service is not served.")
    if doubt := next((course for course in scene.versions if course.pinned and course.pinned.doubt), None):
        assert doubt.pinned is not None
        if doubt.follow:
            stays = f"{doubt.pinned.doubt} It stays at {doubt.pinned.registered} until it can be asked."
            return made.yes("SourceNotFollowed", f"{_version(doubt)}: {stays}")
        return made.yes(
            "SourceNotPinned",
            f"{_version(doubt)}: {doubt.pinned.doubt} Its workers may fetch different commits: name one in the source.",
        )
    down = [course for course in scene.versions if course.weight > 0 and not course.serves]
    serving = [course for course in scene.courses if course.weight > 0 and course.serves]
    if down and serving:
        others = _names(course.name for course in serving)
        return made.yes("VersionNotServing", f"{_version(down[0])} can't serve; its share goes to {others}.")
    if scene.routers.lost:
        return made.yes("RouterLost", f"Router {scene.routers.lost[0]} is ready but does not answer the operator.")
    for course in scene.versions:
        if course.serves and not course.rolling and _complete_once(course) and (short := _short(course)):
            return made.yes("WorkersMissing", f"{_version(course)} serves with fewer workers than it should: {short}.")
    return made.no("AsWanted", "Nothing is lacking.")


def _concluded(service: InferenceService, experiment: Experiment) -> Finding:
    made = _Made("ExperimentConcluded")
    ended, reason, message = describe(service, experiment)
    return made.yes(reason, message) if ended else made.no(reason, message)


def _advise(scene: Scene, course: Course) -> str:
    """What holds a version up, what serves meanwhile, and what to do."""
    found = course.obstacle
    assert found is not None
    serving = [one for one in scene.courses if one.serves and one.weight > 0]
    if course.serves and course.former is not None:
        meanwhile = f"; its former revision {course.former.name} still serves"
    elif serving:
        serve = "serves" if len(serving) == 1 else "serve"
        meanwhile = f"; {_names(one.name for one in serving)} still {serve} all traffic"
    else:
        meanwhile = "; nothing serves"
    field = f".{found.field}" if found.field else ""
    instead = f" or remove {course.name}" if len(scene.versions) > 1 else ""
    verb = "Make room, or change" if found.reason == "Unschedulable" else "Fix"
    return f"{_version(course)}: {found.text}{meanwhile}. {verb} spec.versions[{course.index}]{field}{instead}."


def _rolling(scene: Scene, course: Course) -> str:
    counts = []
    for role, wanted in course.desired.items():
        revision = course.found.get(_revision(course))
        counts.append(f"{role} {revision.role(role).ready if revision else 0} of {wanted}")
    former = f" in place of {_described(course, course.former.name)}" if course.former else ""
    return f"{_version(course)}: revision {_described(course, _revision(course))}{former} has {', '.join(counts)}."


def _described(course: Course, revision: str) -> str:
    """A revision, with the registered version that it is."""
    registered = course.registered(revision)
    return f"{revision} ({registered})" if registered else revision


def _unresolved(made: "_Made", course: Course) -> Finding | None:
    """Why nothing of a version can be run, where its source can't be told."""
    if course.unknown is None or not course.unknown.error:
        return None
    return made.no("SourceUnresolved", f"{_version(course)}: {course.unknown.error}")


def _missing(scene: Scene) -> str:
    """Workers that there are not yet."""
    found = [(course, short) for course in scene.versions if (short := _short(course))]
    return "; ".join(f"{_version(course)}: {short}" for course, short in found) + ("." if found else "")


def _short(course: Course) -> str:
    return ", ".join(
        f"{course.ready(role)} of {count} {role} workers routable"
        for role, count in course.desired.items()
        if course.ready(role) < count
    )


def _complete(course: Course) -> bool:
    """The wanted revision has all its workers."""
    revision = course.found.get(_revision(course))
    return revision is not None and all(revision.role(role).ready >= count for role, count in course.desired.items())


def _complete_once(course: Course) -> bool:
    """The revision that is wanted has been served before: it is not merely starting."""
    last = course.last
    return last is not None and last.revision == _revision(course) and last.effective_weight > 0


def _revision(course: Course) -> str:
    return course.plan.revision if course.plan else ""


def _version(course: Course) -> str:
    return f"version {course.name}"


def _names(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _name_taken(made: "_Made", scene: Scene) -> Finding:
    return made.no(
        "ModelNameTaken",
        f"Model name {scene.service.model!r} belongs to InferenceService {scene.name_owner}, which is older. "
        "Delete that one, or make this one with another spec.model.",
    )


class _Made:
    """Makes findings of one type."""

    def __init__(self, type: str) -> None:
        self._type: Final = type

    def yes(self, reason: str, message: str) -> Finding:
        return Finding(self._type, "True", reason, message)

    def no(self, reason: str, message: str) -> Finding:
        return Finding(self._type, "False", reason, message)

    def unknown(self, reason: str, message: str) -> Finding:
        return Finding(self._type, "Unknown", reason, message)
