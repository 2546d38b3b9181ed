"""What a plan asks for: values, which an executor turns into writes.

Every action is safe by itself: a plan that is carried out in part, in whatever order, or in part again, breaks nothing.
An executor may stop at any failure; the next plan begins from what it then sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tandem_api.inference_service.status import InferenceServiceStatus

from tandem_operator.planning.experiments.record import Record

Kind = Literal[
    "Deployment",
    "Service",
    "ConfigMap",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "ServiceAccount",
    "NetworkPolicy",
]


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a Deployment's replicas, through its scale subresource.

    The API server has to refuse it (409) if the Deployment is no longer at `resource_version`: it was decided on that.
    """

    deployment: str
    uid: str
    replicas: int
    resource_version: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object, in the background, with its uid (and where given its resource version) as precondition."""

    kind: Kind
    name: str
    uid: str
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Set the pod's condition tandem.dev/Routable to True (by strategic merge: others' conditions stay)."""

    pod: str
    uid: str


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find out what a moving source stands for; the answer goes into `Observed.sources`."""

    source: str
    secret: str | None = None
    """Name of the Secret with the credentials, in the service's namespace."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event about the service."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one service. An empty one says that all is as it should be."""

    apply: tuple[Mapping[str, Any], ...] = ()
    """Complete objects, for server-side apply; owner references and labels are in them."""
    scale: tuple[Scale, ...] = ()
    delete: tuple[Delete, ...] = ()
    gates: tuple[Gate, ...] = ()
    status: InferenceServiceStatus | None = None
    """The whole status; None: it stays as it is. Written with the resource version of the resource that was planned
    for: a status decided on a former spec or status has to be refused."""
    events: tuple[Event, ...] = ()
    """To be sent once the status is written."""
    resolve: tuple[Resolve, ...] = ()
    follow: tuple[str, ...] = ()
    """Sources of the registry: keep finding out what they stand for; the answers go into `Observed.sources`."""
    uses: tuple[str, ...] = ()
    """Registered versions, as NAME/VERSION, that the registry has to keep for this service."""
    inquire: str | None = None
    """Ask the registry how this experiment ended; the answer goes into `Observed.outcomes`."""
    tell: Record | None = None
    """An experiment that has ended: the registry is to know, and does not yet."""
    awaits_routers: bool = False
    """Something waits for what the routers say: ask them often."""
    again_after: float | None = None
    """Seconds after which time alone makes another plan; None: only a change does."""

    @property
    def writes(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.apply or self.scale or self.delete or self.gates or self.status is not None)
