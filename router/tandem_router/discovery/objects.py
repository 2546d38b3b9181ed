"""What the router reads of Kubernetes objects: msgspec skips all else, so that a busy cluster costs little CPU.

Members that Go leaves out or writes as null are optional here. What the API server's schemas promise is not checked
again; an object that breaks its promise is said and left out by whoever reads it (`tandem_router.discovery.watching`).
"""

from typing import Literal, Protocol

import msgspec


class Meta(msgspec.Struct, rename="camel"):
    """An object's metadata."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    """RFC 3339, whole seconds."""
    labels: dict[str, str] | None = None

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


class Object(Protocol):
    """Anything that has metadata."""

    @property
    def metadata(self) -> Meta: ...


class Revision(msgspec.Struct):
    """Of `status.versions[].revisions`, with the defaults that its writer may leave out."""

    name: str
    disaggregated: bool = True
    traffic: bool = True


class Version(msgspec.Struct):
    """Of `status.versions`."""

    name: str
    weight: int | None = None
    revisions: list[Revision] | None = None
    held: bool = False


class Rollout(msgspec.Struct, rename="camel"):
    """`spec.rollout`."""

    queue_timeout: str | None = None


class Experiment(msgspec.Struct):
    """`spec.experiment`. What has a type of its own stays JSON."""

    decide: msgspec.Raw = msgspec.Raw()
    shadow: msgspec.Raw = msgspec.Raw()


class ExperimentState(msgspec.Struct):
    """Of `status.experiment`."""

    id: str
    champion: str
    challenger: str
    phase: str = ""


class Spec(msgspec.Struct):
    """`spec`. `routing` stays JSON for its own type."""

    model: str | None = None
    routing: msgspec.Raw = msgspec.Raw()
    rollout: Rollout | None = None
    experiment: Experiment | None = None


class Status(msgspec.Struct):
    """`status`."""

    versions: list[Version] | None = None
    experiment: ExperimentState | None = None


class InferenceService(msgspec.Struct):
    """The resource, as far as it concerns routers."""

    metadata: Meta
    spec: Spec
    status: Status | None = None


class Conditions(msgspec.Struct):
    """Of an endpoint; what is not said of it is ready and does not terminate."""

    ready: bool | None = None
    terminating: bool | None = None


class Target(msgspec.Struct):
    """What an endpoint is the address of."""

    name: str = ""


class Endpoint(msgspec.Struct, rename="camel"):
    """One pod's address."""

    addresses: list[str]
    conditions: Conditions | None = None
    target_ref: Target | None = None


class Port(msgspec.Struct):
    """A port that all endpoints of a slice have."""

    name: str | None = None
    port: int | None = None


class EndpointSlice(msgspec.Struct, rename="camel"):
    """Some of the endpoints of a Service."""

    metadata: Meta
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: list[Endpoint] | None = None
    ports: list[Port] | None = None
