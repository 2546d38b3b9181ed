"""What the planner is told of a cluster: plain values, gathered by who can ask it.

All of it is about one InferenceService and the objects that it owns. Views may lag behind the cluster: each write that
a plan asks for carries what it was decided on, so that the API server refuses it where that no longer holds. What the
operator itself wrote must be in them before it plans again (it knows the resource versions of its own writes).
Times are Unix seconds of the same clock as `now`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_api.experiments import ExperimentReport
from tandem_api.status import RouterStatus

from tandem_operator.planning.actions import Kind
from tandem_operator.planning.drift import Fields
from tandem_operator.planning.experiments.progress import Recorded
from tandem_operator.planning.resolving import Role


@dataclass(frozen=True, slots=True)
class Deployment:
    """The workers of one role of one revision, as asked of Kubernetes. Names of its revision come from its labels."""

    name: str
    uid: str
    resource_version: str
    version: str
    revision: str
    role: Role
    replicas: int
    """`spec.replicas`: whoever wrote them."""
    created: float
    image: str = ""
    """Of the template's worker container, for messages."""
    deleting: bool = False
    """It has a deletion timestamp."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod makes no progress: of a waiting or terminated container, or of the scheduler."""

    reason: str
    """ImagePullBackOff, ErrImagePull, InvalidImageName, CrashLoopBackOff, Error, OOMKilled, CreateContainerConfigError,
    Unschedulable, ... as Kubernetes says it."""
    message: str = ""
    image: str = ""
    """Of the container in trouble."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One worker."""

    name: str
    uid: str
    version: str
    revision: str
    role: Role
    created: float
    containers_ready: bool = False
    """Condition ContainersReady."""
    routable: bool = False
    """Condition tandem.dev/Routable, the readiness gate, is True."""
    ready: bool = False
    """Condition Ready: containers and gate."""
    terminating: bool = False
    """It has a deletion timestamp, or has ended (phase Succeeded or Failed)."""
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler."""

    name: str
    uid: str
    version: str
    revision: str
    """Of the Deployment that it targets."""
    role: Role
    desired: int | None = None
    """`status.desiredReplicas`; None before it has decided anything."""
    active: bool | None = None
    """Condition ScalingActive; None: not said yet."""
    message: str = ""
    """Of that condition, where it is False."""
    applied: str = ""
    """As of `Child`."""
    fields: Fields = field(default_factory=dict, hash=False)
    """As of `Child`."""


@dataclass(frozen=True, slots=True)
class Child:
    """Any object but Deployments, pods and autoscalers that the service owns."""

    kind: Kind
    name: str
    uid: str
    version: str = ""
    """By its label; empty: it belongs to the whole service."""
    revision: str = ""
    """By its label; empty: it belongs to no single revision."""
    applied: str = ""
    """Its annotation tandem.dev/applied: a hash of what the operator last applied."""
    fields: Fields = field(default_factory=dict, hash=False)
    """Those of it that are the operator's: what it applied, and nobody has changed since."""
    record: str = ""
    """What it keeps of an experiment, where it is the ConfigMap for that."""


@dataclass(frozen=True, slots=True)
class RouterView:
    """A router's pod, and what the router last answered."""

    name: str
    pod_ready: bool
    """The pod's condition Ready, as Kubernetes tells it."""
    silent_since: float | None = None
    """Since when it has not answered; None: it answered when last asked."""
    status: RouterStatus | None = None
    """Its last answer; None: it never gave one."""

    @property
    def answered(self) -> bool:
        return self.silent_since is None and self.status is not None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a moving source was found to be."""

    resolved: str | None = None
    """The source pinned (one commit, one registered version)."""
    error: str = ""
    """Why it can't be told, for people. The hub's then stands as it is written; the registry's as it was before."""
    registered: str = ""
    """The registered version that it is, as NAME/VERSION, where the registry knows it."""
    args: tuple[str, ...] = ()
    """Arguments of the engine that the registered version brings along."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a plan is made of, beside the resource."""

    deployments: tuple[Deployment, ...] = ()
    pods: tuple[Pod, ...] = ()
    autoscalers: tuple[Autoscaler, ...] = ()
    children: tuple[Child, ...] = ()
    routers: tuple[RouterView, ...] = ()
    """Every router of the installation that serves this namespace, whether ready or not."""
    name_owner: str | None = None
    """namespace/name of an older service with the same model name; None: the name is this one's."""
    sources: Mapping[str, Resolution] = field(default_factory=dict)
    """By source as written: answers to `Plan.resolve`, and what those of `Plan.follow` stand for at this moment. One
    that is asked for and not in here is awaited."""
    reports: tuple[ExperimentReport, ...] = ()
    """What routers have counted of its experiments, one for each start of each of them."""
    outcomes: Mapping[str, Recorded] = field(default_factory=dict)
    """By experiment: the registry's answers to `Plan.inquire`. One that is asked for and not in here is awaited."""
