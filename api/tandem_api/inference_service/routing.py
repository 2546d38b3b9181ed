"""How requests find workers, and how KV finds its way: `routing` and `kvTransfer`."""

from typing import Literal

from pydantic import Field

from tandem_api.inference_service.base import Spec


class StickyBy(Spec):
    """The key by which a client keeps its version. Without any of them, the request's id."""

    header: str | None = None
    """A request header's value."""
    user: bool = False
    """The request's `user` field."""
    api_key: bool = False
    """The API key."""


class QueueSpec(Spec):
    """Requests that wait in a router for a worker's place."""

    max_waiting: int = Field(256, ge=0)
    """For each router; one more is answered 429 with Retry-After."""
    timeout: float = Field(30.0, gt=0)
    """Seconds that a request waits at most, then 429 (or 503 where no worker is ready)."""


class RoutingSpec(Spec):
    """How a router picks workers."""

    policy: Literal["leastLoaded", "roundRobin"] = "leastLoaded"
    """Which pair gets the next request."""
    disaggregate_from: int = Field(0, ge=0)
    """Estimated prompt tokens not cached at the decode worker from which a prefill worker is used; 0: always."""
    sticky_by: StickyBy = StickyBy()
    queue: QueueSpec = QueueSpec()
    request_timeout: float = Field(600.0, gt=0)
    """Seconds a request may take, waiting included."""


class KvTransferSpec(Spec):
    """How KV moves from prefill to decode workers."""

    connector: Literal["grpc", "nixl"] = "grpc"
    """`grpc` needs nothing but a network; `nixl` uses RDMA or NVLink where there is any."""
    lease_ttl: float = Field(60.0, gt=0)
    """Seconds that a prefill worker holds KV which nobody fetches or renews."""
    max_staged_bytes: int = Field(4 * 2**30, ge=1)
    """KV bytes a prefill worker holds for fetching, per worker; beyond it prefill is refused before it starts."""
    max_fetches: int = Field(16, ge=1)
    """Fetches that a worker serves, and runs, at once."""
