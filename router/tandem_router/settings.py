"""What one router is told when it starts, as a value: flags become it, tests make it by hand."""

from dataclasses import dataclass, field
from pathlib import Path

from tandem_router.access.settings import AccessSettings
from tandem_router.limits.settings import LimitSettings
from tandem_router.telemetry.measures import LATENCY_MS
from tandem_router.virtual.settings import VirtualSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are in seconds, sizes in bytes."""

    topology: Path | None = None
    """The file that says what there is to serve. None: Kubernetes does."""
    namespaces: tuple[str, ...] = ()
    """Whose InferenceServices are served; empty: of all that the API server lets us see."""
    host: str = "127.0.0.1"
    port: int = 8080
    name: str = "router"
    """How workers and status call this router; a pod's name in a cluster."""
    access: AccessSettings = field(default_factory=AccessSettings)
    """Who may use it. By default that is nobody."""
    limits: LimitSettings = field(default_factory=LimitSettings)
    """How much of it. By default there are none."""
    tls: Path | None = None
    """Folder of a `kubernetes.io/tls` Secret for the channels to workers; None: plain."""
    id_key: bytes = field(default=b"", repr=False)
    """Key of the response ids, shared by replicas that are to read each other's. Empty: drawn at random."""
    max_body_bytes: int = 10 * 2**20
    max_unsent_bytes: int = 2**20
    """Of one stream's answer. A client that leaves more than this unread is cut off."""
    body_timeout: float = 60.0
    """How long a client may take to send its request."""
    ready_after: float = 10.0
    """Seconds after which a router that knows its workers is ready although some can't be reached."""
    lame_duck: float = 0.0
    """How long after SIGTERM the router goes on to take requests: until nobody sends it any."""
    grace: float = 60.0
    """How long open streams may go on after that."""
    latency_buckets_ms: tuple[float, ...] = LATENCY_MS
    """Upper bounds of request_latency_ms's buckets, growing."""
    server_timing: bool = False
    """Tell clients in `Server-Timing` what prefill and KV transfer took."""
    otlp_endpoint: str = ""
    """Where traces go, as OTLP over gRPC; empty: nowhere."""
    registry_url: str = ""
    """Of the model registry, to which `/admin/*` goes; empty: there is none."""
    virtual: VirtualSettings = field(default_factory=VirtualSettings)
    log_level: str = "info"
