"""What Kubernetes already has a word and a shape for, with that word and that shape.

Only what a worker's pod can use stands here. Placement by affinity is in `affinity`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.affinity import LabelSelector
from tandem_api.inference_service.base import (
    DnsLabel,
    DnsName,
    LabelKey,
    Labels,
    Matches,
    Spec,
    Text,
    cel,
    count,
    invalid,
)
from tandem_api.inference_service.quantities import Quantity


class ObjectMeta(Spec):
    """An object's metadata. What a server sets is accepted, so that `kubectl get -o yaml` can be read back."""

    name: DnsLabel
    """Unique within the namespace; at most 63 characters, since names of Services are made of it."""
    namespace: DnsLabel = "default"
    """Where the resource and all that is made for it live."""
    labels: Labels = Field(default_factory=dict)
    """Yours, for selection."""
    annotations: dict[LabelKey, str] = Field(default_factory=dict)
    """Yours, and `tandem.dev/*`, by which an experiment is steered."""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[dict[str, Any], ...] = ()
    managed_fields: tuple[dict[str, Any], ...] = ()


class LocalObjectReference(Spec):
    """An object of the same namespace."""

    name: DnsName
    """Its name."""


ResourceName = Annotated[str, Field(min_length=1, max_length=317)]


class ResourceRequirements(Spec):
    """What a container may use and is sure to get."""

    limits: Annotated[dict[ResourceName, Quantity], Field(max_length=32)] = Field(default_factory=dict)
    """The most: `{nvidia.com/gpu: 1, memory: 64Gi}`. GPUs are asked for here."""
    requests: Annotated[dict[ResourceName, Quantity], Field(max_length=32)] = Field(default_factory=dict)
    """What the scheduler sets aside; where absent, the limits."""


class SecretKeySelector(Spec):
    """A key of a Secret."""

    name: DnsName
    """The Secret, of the same namespace."""
    key: Text
    """Which of its keys."""
    optional: bool = False
    """Start without the variable where the Secret or key is missing."""


class ConfigMapKeySelector(Spec):
    """A key of a ConfigMap."""

    name: DnsName
    """The ConfigMap, of the same namespace."""
    key: Text
    """Which of its keys."""
    optional: bool = False
    """Start without the variable where the ConfigMap or key is missing."""


class ObjectFieldSelector(Spec):
    """A field of the pod itself."""

    field_path: Text
    """Such as `spec.nodeName`."""


_ONE_SOURCE = "must have exactly one of secretKeyRef, configMapKeyRef and fieldRef"


class EnvVarSource(Spec):
    """Where a variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=cel((f"{count('secretKeyRef', 'configMapKeyRef', 'fieldRef')} == 1", _ONE_SOURCE))
    )

    secret_key_ref: SecretKeySelector | None = None
    """A Secret's key."""
    config_map_key_ref: ConfigMapKeySelector | None = None
    """A ConfigMap's key."""
    field_ref: ObjectFieldSelector | None = None
    """A field of the pod."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.secret_key_ref, self.config_map_key_ref, self.field_ref)) != 1:
            raise invalid(_ONE_SOURCE)
        return self


EnvName = Annotated[
    str,
    Field(max_length=256),
    Matches("[A-Za-z_.-][A-Za-z0-9_.-]*", "must be the name of an environment variable, such as HF_ENDPOINT"),
]

_VALUE_OR_FROM = "must have value or valueFrom, not both"


class EnvVar(Spec):
    """An environment variable of a worker."""

    model_config = ConfigDict(json_schema_extra=cel(("!has(self.value) || !has(self.valueFrom)", _VALUE_OR_FROM)))

    name: EnvName
    """Its name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Its value, as text."""
    value_from: EnvVarSource | None = None
    """Where to take the value from."""

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise invalid(_VALUE_OR_FROM)
        return self


class Toleration(Spec):
    """Taints that a pod tolerates."""

    key: Text | None = None
    """The taint's key; absent: all."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How key and value are compared."""
    value: Text | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; absent: all."""
    toleration_seconds: int | None = None
    """How long a NoExecute taint is tolerated; absent: for ever."""


class TopologySpreadConstraint(Spec):
    """How evenly pods spread over zones, nodes or racks. Without labelSelector, over the role's own pods."""

    max_skew: int = Field(ge=1)
    """The most by which the numbers of pods may differ."""
    topology_key: LabelKey
    """The node label whose values are the places."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What to do where it can't be kept."""
    label_selector: LabelSelector | None = None
    """The pods that count."""
    min_domains: int | None = Field(None, ge=1)
    """How many places there must be."""


class SeccompProfile(Spec):
    """The system calls that are allowed."""

    type: Literal["RuntimeDefault", "Localhost", "Unconfined"]
    """Unconfined is refused by restricted namespaces."""
    localhost_profile: Text | None = None
    """A file on the node."""


class PodSecurityContext(Spec):
    """As whom a pod's processes run. What is absent is set as restricted namespaces demand."""

    run_as_user: int | None = Field(None, ge=0)
    """User id; default 65532."""
    run_as_group: int | None = Field(None, ge=0)
    """Group id; default 65532."""
    fs_group: int | None = Field(None, ge=0)
    """Group that owns the volumes; default 65532."""
    supplemental_groups: Annotated[tuple[int, ...], Field(max_length=32)] = ()
    """Further groups."""
    run_as_non_root: bool | None = None
    """Default true."""
    seccomp_profile: SeccompProfile | None = None
    """Default RuntimeDefault."""


class Capabilities(Spec):
    """Linux capabilities. All are dropped; RDMA needs IPC_LOCK added."""

    add: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    """Those to have."""
    drop: Annotated[tuple[Text, ...], Field(max_length=32)] = ("ALL",)
    """Those to drop."""


class SecurityContext(Spec):
    """What a worker's container may do. What is absent is set as restricted namespaces demand."""

    capabilities: Capabilities | None = None
    """Default: none."""
    read_only_root_filesystem: bool | None = None
    """Default true."""
    allow_privilege_escalation: bool | None = None
    """Default false."""


class EmptyDirVolumeSource(Spec):
    """A folder that lives as long as the pod."""

    medium: Literal["", "Memory"] = ""
    """Memory: a tmpfs, counted against the memory limit."""
    size_limit: Quantity | None = None
    """The most it may hold."""


class PersistentVolumeClaimVolumeSource(Spec):
    """A claim of the same namespace."""

    claim_name: DnsName
    """Its name."""
    read_only: bool = False
    """Mounted for reading only."""


class SecretVolumeSource(Spec):
    """A Secret's keys as files."""

    secret_name: DnsName
    """The Secret, of the same namespace."""
    optional: bool = False
    """Start without it where it is missing."""


class ConfigMapVolumeSource(Spec):
    """A ConfigMap's keys as files."""

    name: DnsName
    """The ConfigMap, of the same namespace."""
    optional: bool = False
    """Start without it where it is missing."""


class CsiVolumeSource(Spec):
    """A volume of a storage driver."""

    driver: Text
    """The driver's name."""
    read_only: bool = False
    """Mounted for reading only."""
    fs_type: Text | None = None
    """The file system."""
    volume_attributes: Annotated[dict[LabelKey, Text], Field(max_length=32)] = Field(default_factory=dict)
    """What the driver asks for."""


_ONE_KIND = "must have exactly one of emptyDir, persistentVolumeClaim, secret, configMap and csi"
_KINDS = ("emptyDir", "persistentVolumeClaim", "secret", "configMap", "csi")


class VolumeSource(Spec):
    """What a volume is made of: the kinds that restricted namespaces allow."""

    model_config = ConfigDict(json_schema_extra=cel((f"{count(*_KINDS)} == 1", _ONE_KIND)))

    empty_dir: EmptyDirVolumeSource | None = None
    """A folder that lives as long as the pod."""
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    """A claim."""
    secret: SecretVolumeSource | None = None
    """A Secret."""
    config_map: ConfigMapVolumeSource | None = None
    """A ConfigMap."""
    csi: CsiVolumeSource | None = None
    """A storage driver's volume."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = (self.empty_dir, self.persistent_volume_claim, self.secret, self.config_map, self.csi)
        if sum(kind is not None for kind in kinds) != 1:
            raise invalid(_ONE_KIND)
        return self


_RESERVED = "must have another name: those that begin with tandem- are Tandem's"


class Volume(VolumeSource):
    """A volume of a worker's pod."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"{count(*_KINDS)} == 1", _ONE_KIND),
            ("!self.name.startsWith('tandem-')", _RESERVED),
        )
    )

    name: DnsLabel
    """Its name. Those that begin with `tandem-` are Tandem's."""

    @model_validator(mode="after")
    def _not_reserved(self) -> Self:
        if self.name.startswith("tandem-"):
            raise invalid(_RESERVED)
        return self


class VolumeMount(Spec):
    """Where a worker finds a volume."""

    name: DnsLabel
    """The volume."""
    mount_path: Annotated[Text, Matches("/[^:]*", "must be an absolute path")]
    """The folder in the worker's container."""
    sub_path: Text | None = None
    """A folder in the volume; absent: its root."""
    read_only: bool = False
    """Mounted for reading only."""
