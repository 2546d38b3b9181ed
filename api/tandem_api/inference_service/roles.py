"""The workers of one phase: `prefill` and `decode`, of the service and, where they differ, of a version."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.affinity import Affinity
from tandem_api.inference_service.base import DnsName, Labels, Matches, Spec, Text, UniqueBy, cel, invalid
from tandem_api.inference_service.kubernetes import (
    EnvVar,
    LocalObjectReference,
    PodSecurityContext,
    ResourceRequirements,
    SecurityContext,
    Toleration,
    TopologySpreadConstraint,
    Volume,
    VolumeMount,
    VolumeSource,
)
from tandem_api.inference_service.quantities import parse_quantity

GPU: Final = "nvidia.com/gpu"
"""The resource by which a GPU is asked for."""


class AutoscalingMetric(Spec):
    """What a role is scaled by."""

    name: Literal["queueDepth", "kvUse", "ttft"]
    """queueDepth: waiting requests for each worker; kvUse: used share of the KV cache; ttft: its p95."""
    target: Annotated[
        str, Field(max_length=32), Matches(r"[0-9]+(\.[0-9]+)?(%|ms|s)?", 'must be such as "4", "80%" or "500ms"')
    ]
    """The value to keep to: `"4"` requests, `"80%"` of the blocks, `"500ms"`."""


_ORDER = "min must not be more than max"


class Autoscaling(Spec):
    """Replicas that follow the load."""

    model_config = ConfigDict(json_schema_extra=cel(("self.min <= self.max", _ORDER)))

    min: int = Field(1, ge=1, le=10_000)
    """The fewest workers."""
    max: int = Field(ge=1, le=10_000)
    """The most workers."""
    metrics: Annotated[tuple[AutoscalingMetric, ...], Field(max_length=8)] = (
        AutoscalingMetric(name="queueDepth", target="4"),
    )
    """What decides; of several, the one that asks for the most workers. Default: four waiting requests a worker."""

    @model_validator(mode="after")
    def _min_under_max(self) -> Self:
        if self.min > self.max:
            raise invalid(f"{_ORDER}: they are {self.min} and {self.max}")
        return self


class Parallelism(Spec):
    """How one worker spreads over GPUs."""

    tensor: int = Field(1, ge=1, le=64)
    """Tensor parallelism: GPUs of one worker. Of prefill and decode, one must be a multiple of the other."""


_EITHER = "must have replicas or autoscaling, not both: while autoscaling is on, it owns the number of workers"


class RoleSpec(Spec):
    """Workers of one phase. In a version's own `prefill` or `decode`, what is given replaces the service's."""

    # No field is a scalar with a default: an API server writes those out, and a version's would hide the service's.

    model_config = ConfigDict(json_schema_extra=cel(("!has(self.replicas) || !has(self.autoscaling)", _EITHER)))

    replicas: int | None = Field(None, ge=0, le=10_000)
    """Workers of each version; 1 where neither this nor autoscaling is given."""
    autoscaling: Autoscaling | None = None
    """In place of replicas: as many workers as the load asks for."""
    parallelism: Parallelism = Parallelism()
    """How one worker spreads over GPUs."""
    resources: ResourceRequirements = ResourceRequirements()
    """Of one worker: `{limits: {nvidia.com/gpu: 1}}`."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128), UniqueBy("name")] = ()
    """Environment variables of the worker, and of the fetching of its model."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that workers tolerate."""
    affinity: Affinity | None = None
    """Placement near or far from nodes and pods."""
    topology_spread_constraints: Annotated[tuple[TopologySpreadConstraint, ...], Field(max_length=16)] = ()
    """How workers spread over zones and nodes."""
    priority_class_name: DnsName | None = None
    """The pods' priority."""
    runtime_class_name: DnsName | None = None
    """The container runtime, such as nvidia."""
    scheduler_name: Text | None = None
    """The scheduler; absent: the cluster's default."""
    service_account_name: DnsName | None = None
    """The pods' identity, for cloud storage; absent: one of the service's own that may do nothing."""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], Field(max_length=16)] = ()
    """Secrets to pull images with."""
    pod_security_context: PodSecurityContext | None = None
    """As whom the pod's processes run."""
    security_context: SecurityContext | None = None
    """What the worker's container may do."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32), UniqueBy("name")] = ()
    """Further volumes of the pod."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), UniqueBy("mount_path")] = ()
    """Where the worker finds them."""
    model_cache: VolumeSource | None = None
    """A volume that keeps fetched models beyond a pod's life; absent: each pod fetches into a folder of its own."""
    termination_grace_period_seconds: int | None = Field(None, ge=20, le=86_400)
    """How long a worker that ends may take; open requests may go on until ten seconds before that. Absent: 70."""
    labels: Labels = Field(default_factory=dict)
    """Further labels of the pods."""

    @model_validator(mode="after")
    def _replicas_or_autoscaling(self) -> Self:
        if self.replicas is not None and self.autoscaling is not None:
            raise invalid(_EITHER)
        return self

    @property
    def gpus(self) -> int | None:
        """GPUs that a worker asks for; None where the resource is not named."""
        asked = self.resources.limits.get(GPU, self.resources.requests.get(GPU))
        return None if asked is None else int(parse_quantity(asked))


def merged(common: RoleSpec | None, own: RoleSpec | None) -> RoleSpec | None:
    """A version's settings of a role: the service's, where its own say nothing. None: it has no such workers."""
    if common is None or own is None:
        return own or common
    given = {name: getattr(own, name) for name in own.model_fields_set}
    # The two exclude each other: whichever the version gives goes before whichever the service has.
    if own.replicas is not None:
        given["autoscaling"] = None
    elif own.autoscaling is not None:
        given["replicas"] = None
    return common.model_copy(update=given)
