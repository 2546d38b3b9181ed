"""The pod template of a role's workers, as a plain dict of Kubernetes' shape.

Paths stand in arguments and environment variables only: a runner that has no mounts of its own can map them. Nothing
in a template is known to one platform only.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tandem_api.inference_service import RoleSpec, Source
from tandem_api.inference_service.base import Spec
from tandem_api.inference_service.kubernetes import SecurityContext
from tandem_api.inference_service.upstream import key_variable
from tandem_api.worker import Ports

from tandem_operator.planning.names import ROUTABLE, labels, service_account
from tandem_operator.planning.resolving import EffectiveVersion, Role, Settings

WORKER: Final = "worker"
FETCH: Final = "fetch-model"
MODELS: Final = "/models"
CLAIM: Final = "/source"
CONFIG: Final = "/etc/tandem"
CONFIG_FILE: Final = "config.json"
TLS: Final = "/etc/tandem-tls"
TMP: Final = "/tmp"  # noqa: S108 - the mountPath of a volume of the pod's own

MODEL_VOLUME: Final = "tandem-model"
CLAIM_VOLUME: Final = "tandem-source"
CONFIG_VOLUME: Final = "tandem-config"
TLS_VOLUME: Final = "tandem-tls"
TMP_VOLUME: Final = "tandem-tmp"
SHM_VOLUME: Final = "tandem-shm"

GRACE: Final = 70
"""Seconds that a pod has to end, where the manifest does not say."""
GRACE_MARGIN: Final = 10
"""Seconds between a worker's own grace period and the pod's: for cancelling, closing and the engine's end."""

STARTUP_SECONDS: Final = 3600
"""That an engine has to load. Liveness is asked only after it: an import or a compiler may hold a process for long."""

NOBODY: Final = 65532


def pod_template(
    version: EffectiveVersion, revision: str, role: Role, settings: Settings, config_map: str, ports: Ports
) -> dict[str, Any]:
    """`metadata` and `spec` of the pods of one role of one revision."""
    spec = version.role(role)
    assert spec is not None
    return {
        "metadata": {
            "labels": {**spec.labels, **labels(version, revision, role)},
            "annotations": {"kubectl.kubernetes.io/default-container": WORKER},
        },
        "spec": _filled(
            {
                "initContainers": [_fetch(version, spec, settings)] if _fetches(version) else None,
                "containers": [_worker(version, spec, role, settings, ports)],
                "volumes": _volumes(version, spec, settings, config_map),
                "readinessGates": [{"conditionType": ROUTABLE}],
                "terminationGracePeriodSeconds": grace_of(spec),
                "securityContext": _pod_security(spec),
                "automountServiceAccountToken": spec.service_account_name is not None,
                "enableServiceLinks": False,
                "serviceAccountName": spec.service_account_name or service_account(version.service),
                "nodeSelector": spec.node_selector,
                "tolerations": _shaped_all(spec.tolerations),
                "affinity": _shaped(spec.affinity),
                "topologySpreadConstraints": _spread(version, revision, role, spec),
                "priorityClassName": spec.priority_class_name,
                "runtimeClassName": spec.runtime_class_name,
                "schedulerName": spec.scheduler_name,
                "imagePullSecrets": _pull_secrets(spec, settings),
            }
        ),
    }


def grace_of(role: RoleSpec) -> int:
    """Seconds that a pod has to end."""
    return role.termination_grace_period_seconds or GRACE


def model_folder(source: str) -> str:
    """Where a source's model lies in the pod. The name is the source's, so that a shared cache keeps many."""
    name = re.sub("[^a-z0-9]+", "-", source.partition("://")[2].lower()).strip("-")[-40:].strip("-")
    return f"{MODELS}/{name}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"


def _fetches(version: EffectiveVersion) -> bool:
    return version.engine.fetches


def _claim(version: EffectiveVersion) -> Source | None:
    """The source, where it is a claim that the pod mounts."""
    if version.source is None or not _fetches(version):
        return None
    source = Source.parse(version.source)
    return source if source.scheme == "pvc" else None


def _fetch(version: EffectiveVersion, role: RoleSpec, settings: Settings) -> dict[str, Any]:
    assert version.source is not None
    claim = _claim(version)
    return _filled(
        {
            "name": FETCH,
            "image": version.image,
            "imagePullPolicy": version.image_pull_policy or settings.image_pull_policy,
            "command": ["python", "-m", "tandem_engine.sources", "fetch"],
            "args": [
                *("--source", version.source),
                *("--to", model_folder(version.source)),
                *(("--mount", CLAIM) if claim else ()),
            ],
            "env": _env(role, settings, {}, _registry(version, settings)),
            "envFrom": [{"secretRef": {"name": version.source_secret}}] if version.source_secret else None,
            "securityContext": _container_security(None),
            "volumeMounts": [
                {"name": MODEL_VOLUME, "mountPath": MODELS},
                *([_claim_mount()] if claim else []),
                {"name": TMP_VOLUME, "mountPath": TMP},
                *_shaped_all(role.volume_mounts),
            ],
        }
    )


def _worker(version: EffectiveVersion, spec: RoleSpec, role: Role, settings: Settings, ports: Ports) -> dict[str, Any]:
    has_model = _fetches(version)
    args = ["--config", f"{CONFIG}/{CONFIG_FILE}"]
    mounts: list[dict[str, Any]] = [{"name": CONFIG_VOLUME, "mountPath": CONFIG, "readOnly": True}]
    if has_model:
        assert version.source is not None
        args += ["--model-dir", model_folder(version.source)]
        mounts.append({"name": MODEL_VOLUME, "mountPath": MODELS, "readOnly": True})
    if _claim(version):
        mounts.append(_claim_mount())
    if settings.tls_secret:
        args += ["--tls", TLS]
        mounts.append({"name": TLS_VOLUME, "mountPath": TLS, "readOnly": True})
    mounts.append({"name": TMP_VOLUME, "mountPath": TMP})
    if _shares_memory(spec):
        mounts.append({"name": SHM_VOLUME, "mountPath": "/dev/shm"})  # noqa: S108 - where POSIX keeps it
    return _filled(
        {
            "name": WORKER,
            "image": version.image,
            "imagePullPolicy": version.image_pull_policy or settings.image_pull_policy,
            "command": ["python", "-m", f"tandem_{role}"],
            "args": args,
            "env": [
                *_env(
                    spec,
                    settings,
                    {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP"},
                ),
                *_keys(version),
            ],
            "ports": _ports(spec, role, ports),
            "resources": _shaped(spec.resources),
            "startupProbe": _probe("readiness", ports, period=1, failures=STARTUP_SECONDS),
            "livenessProbe": _probe("liveness", ports, period=10, failures=3),
            "readinessProbe": _probe("readiness", ports, period=1, failures=3),
            "securityContext": _container_security(spec.security_context),
            "volumeMounts": [*mounts, *_shaped_all(spec.volume_mounts)],
        }
    )


def _ports(spec: RoleSpec, role: Role, ports: Ports) -> list[dict[str, Any]]:
    named = {"grpc": ports.grpc, "health": ports.health, "metrics": ports.metrics}
    if role == "prefill":
        named |= {f"kv-{rank}": ports.kv + rank for rank in range(spec.parallelism.tensor)}
    return [{"name": name, "containerPort": port} for name, port in named.items()]


def _probe(service: str, ports: Ports, period: int, failures: int) -> dict[str, Any]:
    return {
        "grpc": {"port": ports.health, "service": service},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _registry(version: EffectiveVersion, settings: Settings) -> list[dict[str, Any]]:
    """Where the registry is, and the key for it, for those who fetch from it."""
    if version.source is None or settings.registry_url is None or Source.parse(version.source).scheme != "registry":
        return []
    variables: list[dict[str, Any]] = [{"name": "TANDEM_REGISTRY_URL", "value": settings.registry_url}]
    if settings.registry_key is not None:
        name, key = settings.registry_key
        reference = {"secretKeyRef": {"name": name, "key": key}}
        variables.append({"name": "TANDEM_REGISTRY_KEY", "valueFrom": reference})
    return variables


def _env(
    role: RoleSpec, settings: Settings, fields: Mapping[str, str], more: Iterable[dict[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Each name once: an installation's, then the manifest's own, then what the pod tells of itself."""
    variables: dict[str, dict[str, Any]] = {"HOME": {"name": "HOME", "value": TMP}}
    variables |= {variable["name"]: variable for variable in more}
    variables |= {name: {"name": name, "value": value} for name, value in settings.env.items()}
    variables |= {variable.name: _shaped(variable) for variable in role.env}
    for name, path in fields.items():
        variables[name] = {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    return list(variables.values())


def _keys(version: EffectiveVersion) -> list[dict[str, Any]]:
    """The keys of the servers behind an upstream engine. No other engine's worker gets them."""
    upstream = version.engine.upstream if version.engine.type == "upstream" else None
    return [
        {"name": key_variable(index), "valueFrom": {"secretKeyRef": _shaped(endpoint.api_key)}}
        for index, endpoint in enumerate(upstream.endpoints if upstream else ())
        if endpoint.api_key is not None
    ]


def _volumes(version: EffectiveVersion, spec: RoleSpec, settings: Settings, config_map: str) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": CONFIG_VOLUME, "configMap": {"name": config_map}}]
    if _fetches(version):
        volumes.append({"name": MODEL_VOLUME, **(_shaped(spec.model_cache) or {"emptyDir": {}})})
    if claim := _claim(version):
        source = {"claimName": claim.authority, "readOnly": True}
        volumes.append({"name": CLAIM_VOLUME, "persistentVolumeClaim": source})
    if settings.tls_secret:
        volumes.append({"name": TLS_VOLUME, "secret": {"secretName": settings.tls_secret}})
    volumes.append({"name": TMP_VOLUME, "emptyDir": {}})
    if _shares_memory(spec):
        volumes.append({"name": SHM_VOLUME, "emptyDir": {"medium": "Memory"}})
    return [*volumes, *_shaped_all(spec.volumes)]


def _claim_mount() -> dict[str, Any]:
    return {"name": CLAIM_VOLUME, "mountPath": CLAIM, "readOnly": True}


def _shares_memory(spec: RoleSpec) -> bool:
    """Ranks talk through shared memory, of which a container has 64 MiB unless it gets a volume for it."""
    return spec.parallelism.tensor > 1


def _pull_secrets(spec: RoleSpec, settings: Settings) -> list[dict[str, str]]:
    names = dict.fromkeys([*(secret.name for secret in spec.image_pull_secrets), *settings.image_pull_secrets])
    return [{"name": name} for name in names]


def _pod_security(spec: RoleSpec) -> dict[str, Any]:
    """What restricted namespaces demand, and the manifest's own."""
    return {
        "runAsNonRoot": True,
        "runAsUser": NOBODY,
        "runAsGroup": NOBODY,
        "fsGroup": NOBODY,
        "seccompProfile": {"type": "RuntimeDefault"},
        **_shaped(spec.pod_security_context),
    }


def _container_security(context: SecurityContext | None) -> dict[str, Any]:
    own = _shaped(context)
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        **own,
        "capabilities": {"drop": ["ALL"], **own.get("capabilities", {})},
    }


def _spread(version: EffectiveVersion, revision: str, role: Role, spec: RoleSpec) -> list[dict[str, Any]]:
    """The manifest's constraints; those without a selector count the pods of this very role and revision."""
    own = {"labelSelector": {"matchLabels": labels(version, revision, role)}}
    return [{**own, **_shaped(constraint)} for constraint in spec.topology_spread_constraints]


def _shaped(value: Spec | None) -> dict[str, Any]:
    """As Kubernetes writes it, without what equals its defaults: an API server may have written them out."""
    return {} if value is None else value.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _shaped_all(values: Iterable[Spec]) -> list[dict[str, Any]]:
    return [_shaped(value) for value in values]


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Without fields that say nothing."""
    return {name: value for name, value in fields.items() if value is not None and value not in ([], {})}
