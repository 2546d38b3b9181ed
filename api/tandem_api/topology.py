"""What a router can reach: services, their versions, and the workers of each revision.

Every discovery source of the router yields whole topologies, each in place of the one before. The file source reads one
from JSON, which the local platform writes and a person may write by hand.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem_api.inference_service import RoutingSpec
from tandem_api.inference_service.experiment import Criterion, Shadow


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WorkerEndpoint(_Strict):
    """One worker: `name` is its pod's, `address` host:port of its worker protocol."""

    name: str
    role: Literal["prefill", "decode"]
    address: str
    ready: bool = True
    """It counts as serving: a router that starts waits for a session to it. Routers connect to the others, too, and
    what a worker itself says decides whether it gets calls."""
    terminating: bool = False
    """It finishes the calls that it has and gets no others."""


class RevisionEndpoints(_Strict):
    """The workers of one revision. Prefill and decode of one revision only ever pair with each other."""

    name: str
    disaggregated: bool
    """False: the version has no prefill role, and decode workers serve alone."""
    traffic: bool = True
    """Whether requests may begin on it. Those that hold something of it finish on it in any case."""
    workers: tuple[WorkerEndpoint, ...] = ()


class VersionRoutes(_Strict):
    """A version, its share of the traffic in percent, and the revisions that serve it, preferred first."""

    name: str
    weight: int = Field(ge=0, le=100)
    revisions: tuple[RevisionEndpoints, ...] = ()
    held: bool = False
    """No pair is left for a moment, and one is to come: requests wait for it up to `queue_timeout`."""


class ExperimentRoutes(_Strict):
    """An experiment between two of the versions. Their weights are the versions' own."""

    id: str
    """Salts the split."""
    champion: str
    challenger: str
    decide: tuple[Criterion, ...] = ()
    shadow: Shadow | None = None
    """Copies are to be made at this moment."""


class ServiceRoutes(_Strict):
    """An InferenceService as the router sees it. `created` is in Unix seconds, for /v1/models."""

    name: str
    namespace: str
    model: str
    created: int = 0
    routing: RoutingSpec
    versions: tuple[VersionRoutes, ...]
    experiment: ExperimentRoutes | None = None
    queue_timeout: float = Field(120.0, ge=0)
    """`rollout.queueTimeout`, in seconds."""
    observed: str = ""
    """The resource's metadata.resourceVersion whose status this is; empty where it comes from a file."""


class Topology(_Strict):
    """All services. Model names are unique."""

    services: tuple[ServiceRoutes, ...] = ()
