"""The part of a Kubernetes pod that the runner understands, parsed from its plain dict.

What only a scheduler or a container runtime can honour (resources, affinity, securityContext, ...) is read over.
Volumes of a kind that the runner does not know are refused with their name.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel


class _Kubernetes(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Selector(_Kubernetes):
    """A field's path, or a key of a ConfigMap or Secret."""

    name: str = ""
    key: str = ""
    field_path: str = ""
    optional: bool = False


class ValueFrom(_Kubernetes):
    """Where a variable's value comes from."""

    field_ref: Selector | None = None
    secret_key_ref: Selector | None = None
    config_map_key_ref: Selector | None = None


class EnvVar(_Kubernetes):
    """One variable; `$(NAME)` in its value stands for a variable before it."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class EnvFrom(_Kubernetes):
    """All keys of a ConfigMap or Secret as variables."""

    prefix: str = ""
    config_map_ref: Selector | None = None
    secret_ref: Selector | None = None


class VolumeMount(_Kubernetes):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Port(_Kubernetes):
    """A port that a probe may name."""

    container_port: int
    name: str = ""


class GrpcAction(_Kubernetes):
    """`grpc.health.v1` Check of one service."""

    port: int | str
    service: str = ""


class HttpHeader(_Kubernetes):
    """A header of a probe's request."""

    name: str
    value: str


class HttpAction(_Kubernetes):
    """GET; any status from 200 to 399 is success."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class TcpAction(_Kubernetes):
    """A connection that can be opened."""

    port: int | str
    host: str = ""


class ExecAction(_Kubernetes):
    """A command that exits 0."""

    command: tuple[str, ...]


class Probe(_Kubernetes):
    """One probe: exactly one action, and how often and how strictly it is asked."""

    grpc: GrpcAction | None = None
    http_get: HttpAction | None = None
    tcp_socket: TcpAction | None = None
    exec: ExecAction | None = None
    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: float | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        if sum(action is not None for action in (self.grpc, self.http_get, self.tcp_socket, self.exec)) != 1:
            raise ValueError("a probe needs exactly one of grpc, httpGet, tcpSocket and exec")
        return self


class Container(_Kubernetes):
    """What runs, and with what."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    ports: tuple[Port, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None


class KeyToPath(_Kubernetes):
    """One key of a ConfigMap or Secret as a file."""

    key: str
    path: str


class ConfigMapVolume(_Kubernetes):
    """The keys of a ConfigMap as files."""

    name: str
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class SecretVolume(_Kubernetes):
    """The keys of a Secret as files."""

    secret_name: str
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class HostPathVolume(_Kubernetes):
    """A folder of the machine, made where it is missing."""

    path: str


class Volume(_Kubernetes):
    """A folder that containers share."""

    name: str
    empty_dir: dict[str, Any] | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    host_path: HostPathVolume | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_kind(cls, value: Any) -> Any:
        known = {"emptyDir", "configMap", "secret", "hostPath"}
        if isinstance(value, Mapping) and not known & value.keys():
            kinds = ", ".join(sorted(value.keys() - {"name"})) or "none"
            raise ValueError(f"volume {value.get('name')}: {kinds}: known are {', '.join(sorted(known))}")
        return value


class PodSpec(_Kubernetes):
    """Containers, what they share, and how they end."""

    containers: tuple[Container, ...] = Field(min_length=1)
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: float = 30


class Metadata(_Kubernetes):
    """A pod's identity, as `fieldRef` may name it."""

    name: str = ""
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(_Kubernetes):
    """A pod, or the template of one: `metadata` and `spec`."""

    metadata: Metadata = Metadata()
    spec: PodSpec

    def named(self, name: str, namespace: str = "default") -> Self:
        """The pod of this name made from the template."""
        metadata = self.metadata.model_copy(update={"name": name, "namespace": namespace})
        return self.model_copy(update={"metadata": metadata})
