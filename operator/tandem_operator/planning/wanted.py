"""What has to run for a service: its versions' revisions, and the workers of each role."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tandem_api.inference_service import InferenceService, RoleSpec
from tandem_api.worker import Ports, WorkerConfig

from tandem_operator.planning.names import child_name, labels, selector
from tandem_operator.planning.pods import CONFIG_FILE, GRACE_MARGIN, grace_of, pod_template
from tandem_operator.planning.resolving import ROLES, EffectiveVersion, Role, Settings, resolve
from tandem_operator.planning.revisions import revision_of
from tandem_operator.planning.splitting import split


@dataclass(frozen=True, slots=True)
class RolePlan:
    """The workers of one role of one revision."""

    role: Role
    name: str
    """Of the Deployment, its headless Service and its ConfigMap; pods are called after it."""
    replicas: int
    """As many as asked for; with autoscaling, as many as to begin with."""
    spec: RoleSpec
    """With the version's overrides applied."""
    config: WorkerConfig
    selector: Mapping[str, str]
    """Labels of these pods, and of no others."""
    config_map: Mapping[str, Any]
    pod_template: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RevisionPlan:
    """A version, as it should run."""

    version: str
    revision: str
    weight: int
    """Percent of the traffic."""
    effective: EffectiveVersion
    roles: tuple[RolePlan, ...]

    @property
    def disaggregated(self) -> bool:
        """Whether prompts are computed by prefill workers."""
        return self.effective.disaggregated


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A service, as it should run."""

    service: InferenceService
    revisions: tuple[RevisionPlan, ...]
    """One for each version, in the order of the traffic split."""


def plan_services(services: Iterable[InferenceService], settings: Settings | None = None) -> tuple[ServicePlan, ...]:
    """What has to run for all `services`."""
    return tuple(plan_service(service, settings) for service in services)


def plan_service(
    service: InferenceService, settings: Settings | None = None, *, sources: Mapping[str, str] | None = None
) -> ServicePlan:
    """What has to run for a service.

    Args:
        service: The resource.
        settings: The installation's; default: as if nothing had been set.
        sources: By version name: what its source was resolved to.
    """
    settings, sources = settings or Settings(), sources or {}
    return ServicePlan(
        service,
        tuple(
            plan_revision(resolve(service, version, settings, source=sources.get(version.name)), weight, settings)
            for version, weight in split(service)
        ),
    )


def plan_revision(
    version: EffectiveVersion, weight: int, settings: Settings, revision: str | None = None
) -> RevisionPlan:
    """What has to run for one version.

    Args:
        version: With its overrides applied.
        weight: Its percent of the traffic.
        settings: The installation's.
        revision: Its name, where that was decided before.
    """
    revision = revision or revision_of(version)
    roles = tuple(_role(version, revision, role, settings) for role in ROLES if version.role(role))
    return RevisionPlan(version.version, revision, weight, version, roles)


def _role(version: EffectiveVersion, revision: str, role: Role, settings: Settings) -> RolePlan:
    spec = version.role(role)
    assert spec is not None
    name = child_name(version, revision, role)
    config = WorkerConfig(
        role=role,
        service=f"{version.namespace}/{version.service}",
        model=version.model,
        version=version.version,
        revision=revision,
        engine=version.engine,
        tensor_parallel=spec.parallelism.tensor,
        kv_transfer=version.kv_transfer,
        disaggregated=version.disaggregated,
        ports=Ports(),
        grace_seconds=grace_of(spec) - GRACE_MARGIN,
    )
    return RolePlan(
        role=role,
        name=name,
        replicas=_replicas(spec),
        spec=spec,
        config=config,
        selector=selector(version, revision, role),
        config_map={
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": version.namespace,
                "labels": labels(version, revision, role),
            },
            "data": {CONFIG_FILE: config.model_dump_json(indent=2)},
            "immutable": True,
        },
        pod_template=pod_template(version, revision, role, settings, name, config.ports),
    )


def _replicas(spec: RoleSpec) -> int:
    if spec.autoscaling is not None:
        return spec.autoscaling.min
    return 1 if spec.replicas is None else spec.replicas
