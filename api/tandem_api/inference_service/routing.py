"""How requests find workers, and how KV finds its way: `routing` and `kvTransfer`."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.base import Matches, Spec, cel, invalid
from tandem_api.inference_service.quantities import ByteSize, PositiveDuration

HeaderName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches("[A-Za-z0-9][A-Za-z0-9_-]*", "must be the name of a request header, such as x-user-id"),
]

_ONE_KEY = "must hold one key at most: header, user or apiKey"


class StickyBy(Spec):
    """The key by which a client keeps its version. Without any of them, the request's id."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "(has(self.header) ? 1 : 0) + (self.user ? 1 : 0) + (self.apiKey ? 1 : 0) <= 1",
                _ONE_KEY,
            )
        )
    )

    header: HeaderName | None = None
    """A request header's value."""
    user: bool = False
    """The request's `user` field."""
    api_key: bool = False
    """The API key."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if (self.header is not None) + self.user + self.api_key > 1:
            raise invalid(_ONE_KEY)
        return self


class QueueSpec(Spec):
    """Requests that wait in a router for a worker's place. Of these, each of several routers has its part."""

    max_waiting: int = Field(256, ge=0)
    """For each router; one more is answered 429 with Retry-After."""
    timeout: PositiveDuration = 30.0
    """How long a request waits at most, then 429 (or 503 where no worker is ready)."""


class RoutingSpec(Spec):
    """How a router picks workers."""

    policy: Literal["leastLoaded", "roundRobin"] = "leastLoaded"
    """Which pair gets the next request."""
    disaggregate_from: int = Field(0, ge=0)
    """Estimated prompt tokens not cached at the decode worker from which a prefill worker is used; 0: always."""
    sticky_by: StickyBy = StickyBy()
    """What keeps a client on its version where several share the traffic."""
    queue: QueueSpec = QueueSpec()
    """Where requests wait while all workers are busy."""
    request_timeout: PositiveDuration = 600.0
    """How long a request may take, waiting included."""


class KvTransferSpec(Spec):
    """How KV moves from prefill to decode workers."""

    connector: Literal["grpc", "nixl"] = "grpc"
    """`grpc` needs nothing but a network; `nixl` uses RDMA or NVLink where there is any."""
    lease_ttl: PositiveDuration = 60.0
    """How long a prefill worker holds KV which nobody fetches or renews."""
    max_staged_bytes: Annotated[ByteSize, Field(ge=1)] = 4 * 2**30
    """KV bytes a prefill worker holds for fetching, per worker; beyond it prefill is refused before it starts."""
    max_fetches: int = Field(16, ge=1)
    """Fetches that a worker serves, and runs, at once."""
