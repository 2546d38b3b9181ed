"""One version from what is wanted to its next step: where pinning, autoscaling and the rollout come together."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_api.inference_service import InferenceService, VersionSpec
from tandem_api.inference_service.status import RevisionState, RoleStatus, VersionState

from tandem_operator.planning.autoscaling import desired
from tandem_operator.planning.names import ROLE, SERVICE, VERSION
from tandem_operator.planning.observed import Autoscaler, Observed
from tandem_operator.planning.pinning import Pinned, Unknown, followed, keeps_moving, pin
from tandem_operator.planning.resolving import ROLES, Role, Settings
from tandem_operator.planning.rollout import Goal, Step, advance, rest, withdraw
from tandem_operator.planning.routers import Routers
from tandem_operator.planning.staff import Revision
from tandem_operator.planning.stepping import Counts
from tandem_operator.planning.trouble import Obstacle, obstacle
from tandem_operator.planning.wanted import RevisionPlan, plan_revision


@dataclass(frozen=True)
class Course:
    """A version: what is wanted, what there is, what to do next."""

    name: str
    index: int | None
    """Its place in `spec.versions`; None: the spec no longer has it."""
    weight: int
    found: Mapping[str, Revision]
    step: Step
    desired: Counts = field(default_factory=dict)
    plan: RevisionPlan | None = None
    """None: it is not known yet, or no longer, what to run."""
    pinned: Pinned | None = None
    unknown: Unknown | None = None
    """What has to be found out before anything of the version can be done."""
    follow: str = ""
    """The source that the registry is to be asked for again and again."""
    scalers: Mapping[Role, Autoscaler] = field(default_factory=dict)
    scaled: frozenset[Role] = frozenset()
    """Roles whose autoscaler owns the replicas of the wanted revision, or may be given them."""
    aside: bool = False
    """Autoscalers are to go, since a rollout needs the replicas."""
    obstacle: Obstacle | None = None
    """Why workers of the wanted revision make no progress."""
    serves: bool = False
    """Requests for it that come to any router now can be served."""
    last: VersionState | None = None

    def registered(self, revision: str) -> str:
        """The registered version that a revision is, as NAME/VERSION; empty: none."""
        if self.pinned is not None and self.plan is not None and self.plan.revision == revision:
            return self.pinned.registered
        known = self.last.revisions if self.last else ()
        return next((one.registered for one in known if one.name == revision), "")

    @property
    def others(self) -> tuple[Revision, ...]:
        """Revisions beside the wanted one that still have workers."""
        own = self.plan.revision if self.plan else None
        return tuple(revision for revision in self.found.values() if revision.name != own and not revision.gone)

    @property
    def former(self) -> Revision | None:
        """The revision that the wanted one replaces."""
        others = [self.found[name] for name in self.step.traffic if any(one.name == name for one in self.others)]
        return others[0] if others else None

    @property
    def rolling(self) -> bool:
        """Workers of another revision are still asked for."""
        return any(revision.asked for revision in self.others)

    def ready(self, role: Role) -> int:
        """Workers that serve, of all revisions."""
        return sum(revision.role(role).ready for revision in self.found.values())

    def live(self, role: Role) -> int:
        return sum(len(revision.role(role).live) for revision in self.found.values())


def steer(
    service: InferenceService,
    version: VersionSpec,
    weight: int,
    settings: Settings,
    found: Mapping[str, Revision],
    observed: Observed,
    routers: Routers,
    last: VersionState | None,
    now: float,
) -> Course:
    """The next step of a version that the spec has."""
    index = next(i for i, one in enumerate(service.spec.versions) if one.name == version.name)
    scalers = {scaler.role: scaler for scaler in observed.autoscalers if scaler.version == version.name}
    pinned = pin(service, version, settings, last, observed.sources)
    follow = _follow(version, settings, pinned)
    if isinstance(pinned, Unknown):
        step = rest(found, last)
        counts = {role: status.desired for role in ROLES if (status := _status(last, role)) is not None}
        serves = _serves(version.name, found, step, routers)
        return Course(
            version.name,
            index,
            weight,
            found,
            step,
            counts,
            unknown=pinned,
            follow=follow,
            scalers=scalers,
            serves=serves,
            last=last,
        )
    plan = plan_revision(pinned.effective, weight, settings, pinned.revision)
    counts = {
        role.role: desired(role.spec, scaler, found.get(scaler.revision) if scaler else None, _status(last, role.role))
        for role in plan.roles
        for scaler in (scalers.get(role.role),)
    }
    wanted = found.get(plan.revision)
    settled = wanted is not None and not any(one.asked for one in found.values() if one.name != plan.revision)
    automatic = {role.role for role in plan.roles if role.spec.autoscaling is not None}
    aside = any(
        (role in automatic and scaler.revision != plan.revision) or not settled for role, scaler in scalers.items()
    ) and bool(automatic)
    trouble = obstacle(wanted, now) if wanted else None
    if aside:
        step = rest(found, last)
    else:
        goal = Goal(version.name, plan.revision, counts, service.spec.rollout)
        step = advance(goal, found, routers, last, hopeless=trouble is not None and trouble.fatal)
    scaled = frozenset(
        role
        for role in automatic
        if settled and not aside and (role in scalers or wanted is None or wanted.role(role).replicas == counts[role])
    )
    return Course(
        version.name,
        index,
        weight,
        found,
        step,
        counts,
        plan,
        pinned,
        follow=follow,
        scalers=scalers,
        scaled=scaled,
        aside=aside,
        obstacle=trouble,
        serves=_serves(version.name, found, step, routers),
        last=last,
    )


def _follow(version: VersionSpec, settings: Settings, pinned: Pinned | Unknown) -> str:
    """What names a version itself has to be asked for only once."""
    if version.source is None or not followed(version, settings):
        return ""
    return version.source if keeps_moving(version.source) or isinstance(pinned, Unknown) else ""


def leave(
    name: str, found: Mapping[str, Revision], routers: Routers, last: VersionState | None, *, serves_on: bool
) -> Course:
    """The next step of a version that the spec no longer has."""
    step = withdraw(found.values(), routers, serves_on=serves_on)
    return Course(name, None, 1, found, step, serves=_serves(name, found, step, routers), last=last)


def state(course: Course, service: str, effective_weight: int, share_moved_to: tuple[str, ...]) -> VersionState:
    """What status says of a version."""
    former = course.former
    follows, registered = _followed(course)
    return VersionState(
        name=course.name,
        revision=course.plan.revision if course.plan else course.last.revision if course.last else "",
        previous_revision=former.name if former and course.plan else "",
        follows=follows,
        registered=registered,
        revisions=tuple(_revision(course, name, traffic) for name, traffic in course.step.traffic.items()),
        held=course.step.held,
        weight=course.weight,
        effective_weight=effective_weight,
        share_moved_to=share_moved_to,
        prefill=_role(course, service, "prefill"),
        decode=_role(course, service, "decode"),
    )


def _revision(course: Course, name: str, traffic: bool) -> RevisionState:
    if course.plan and course.pinned and course.plan.revision == name:
        effective = course.pinned.effective
        return RevisionState(
            name=name,
            disaggregated=effective.disaggregated,
            traffic=traffic,
            asked=course.pinned.asked,
            image=effective.image,
            source=effective.source or "",
            registered=course.pinned.registered,
            registered_args=course.pinned.args,
        )
    known = next((one for one in course.last.revisions if one.name == name), None) if course.last else None
    if known is not None:
        return known.model_copy(update={"traffic": traffic})
    return RevisionState(name=name, disaggregated=course.found[name].disaggregated, traffic=traffic)


def _followed(course: Course) -> tuple[str, str]:
    """The source that is followed, and what it stands for: as it was, while that is not known."""
    if course.pinned is not None:
        return course.follow, course.pinned.registered if course.follow else ""
    return (course.last.follows, course.last.registered) if course.last else ("", "")


def _role(course: Course, service: str, role: Role) -> RoleStatus | None:
    wanted = course.desired.get(role)
    if wanted is None and not course.live(role):
        return None
    return RoleStatus(
        replicas=course.live(role),
        desired=wanted or 0,
        ready=course.ready(role),
        selector=f"{SERVICE}={service},{VERSION}={course.name},{ROLE}={role}",
    )


def _status(last: VersionState | None, role: Role) -> RoleStatus | None:
    return None if last is None else last.prefill if role == "prefill" else last.decode


def _serves(version: str, found: Mapping[str, Revision], step: Step, routers: Routers) -> bool:
    return any(
        traffic and name in found and found[name].ready and routers.use(version, name, found[name].roles)
        for name, traffic in step.traffic.items()
    )
