"""What a router answers at GET /tandem/v1/status: the state it acts on, for people and tools.

Counts are the view of one router: with several, each reports its own queue and sessions, and the load of workers as
they last told it.
"""

from typing import Literal

from tandem_api.experiments import ExperimentReport
from tandem_api.inference_service.base import Spec


class WorkerStatus(Spec):
    """One worker, by its last load snapshot."""

    name: str
    role: Literal["prefill", "decode"]
    revision: str
    address: str
    connected: bool
    """The router holds a session to it."""
    ready: bool
    """Its engine can answer, and it takes calls."""
    draining: bool
    """It finishes the calls that it has: by its own word, or because its pod terminates."""
    open_calls: int
    running: int
    waiting: int
    kv_use: float
    """Share of the KV blocks in use, 0 to 1."""
    leases: int
    staged_bytes: int


class VersionStatus(Spec):
    """One version of a service."""

    name: str
    weight: int
    """Percent, as asked for."""
    effective_weight: int
    """Percent that is really served: an unready version's share goes to the others."""
    held: bool = False
    """No pair is left for a moment, and one is to come: its requests wait, unless another version serves them."""
    ttft_p95_seconds: float | None
    """Over the last minutes of this router; None without requests."""
    requests: int
    errors: int
    transferred: int
    """Answers whose prompt KV was moved from a prefill worker."""
    recomputed: dict[str, int]
    """Answers whose KV could not be used, by reason."""
    whole: dict[str, int]
    """Answers that ran whole on a decode worker, by reason."""
    revisions: tuple[str, ...] = ()
    """The revisions on which this router lets requests begin, whether or not they have workers. From this the operator
    knows that it has acted on a change."""
    workers: tuple[WorkerStatus, ...]


class ServiceStatus(Spec):
    """One InferenceService."""

    name: str
    namespace: str
    model: str
    observed: str = ""
    """The InferenceService's metadata.resourceVersion whose status this router acts on; empty with a topology file."""
    queued: int
    """Requests that wait in this router for a place."""
    versions: tuple[VersionStatus, ...]
    experiments: tuple[ExperimentReport, ...] = ()
    """What this router has counted of the service's experiment, and of those before it that it still remembers."""


class RouterStatus(Spec):
    """The whole answer."""

    router: str
    release: str
    ready: bool
    services: tuple[ServiceStatus, ...]
