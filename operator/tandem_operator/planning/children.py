"""The objects that are made for a service, complete: as server-side apply takes them.

Of each role of a revision a Deployment, a headless Service, a ConfigMap and a PodDisruptionBudget; of each service a
ServiceAccount and its NetworkPolicies. What a revision is stands fast: its Deployment and its ConfigMap are applied
once, since an operator of another release renders other ones, and workers are not to restart for that. The others are
applied again when they change, which their annotation tandem.dev/applied tells, and when somebody else changes them
(`drift`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tandem_api.inference_service import GROUP, KIND, VERSION, InferenceService

from tandem_operator.planning.names import APPLIED, REVISION, labels, service_account, service_labels
from tandem_operator.planning.wanted import RevisionPlan, RolePlan

Manifest = dict[str, Any]


def deployment(plan: RevisionPlan, role: RolePlan, replicas: int) -> Manifest:
    """Applied once; later only its replicas are written, through the scale subresource."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": role.name, "labels": _labels(plan, role)},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": dict(role.selector)},
            "template": role.pod_template,
        },
    }


def of_role(plan: RevisionPlan, role: RolePlan) -> tuple[Manifest, ...]:
    """What stands beside a role's Deployment."""
    metadata = {"name": role.name, "labels": _labels(plan, role)}
    ports = role.pod_template["spec"]["containers"][0]["ports"]
    return (
        {key: value for key, value in role.config_map.items() if key != "metadata"} | {"metadata": metadata},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                # Routers find each worker by itself: the EndpointSlices of this Service carry its labels.
                "clusterIP": "None",
                "publishNotReadyAddresses": False,
                "selector": dict(role.selector),
                "ports": [
                    {"name": port["name"], "port": port["containerPort"], "targetPort": port["name"]} for port in ports
                ],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {
                # One at a time, also the only one: a budget that forbids that would block every drain of its node.
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": dict(role.selector)},
            },
        },
    )


def account(service: InferenceService) -> Manifest:
    """The identity of workers that name none: it may do nothing, and no pod gets its token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": service_account(service.metadata.name), "labels": service_labels(service.metadata.name)},
        "automountServiceAccountToken": False,
    }


def owned(service: InferenceService, manifests: Iterable[Mapping[str, Any]]) -> tuple[Manifest, ...]:
    """With namespace, owner and the hash of what is applied: deleting the service deletes them all."""
    return tuple(_owned(service, manifest) for manifest in manifests)


def fixed(manifest: Mapping[str, Any]) -> bool:
    """Whether it is applied once and never again: what makes a revision."""
    return manifest["kind"] in ("Deployment", "ConfigMap") and REVISION in manifest["metadata"]["labels"]


def applied(manifest: Mapping[str, Any]) -> str:
    """The hash that its annotation carries."""
    return str(manifest["metadata"]["annotations"][APPLIED])


def _owned(service: InferenceService, manifest: Mapping[str, Any]) -> Manifest:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": service.metadata.name,
        "uid": service.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    metadata = {
        **manifest["metadata"],
        "namespace": service.metadata.namespace,
        "annotations": {APPLIED: digest},
        "ownerReferences": [owner],
    }
    return {**manifest, "metadata": metadata}


def _labels(plan: RevisionPlan, role: RolePlan) -> dict[str, str]:
    return labels(plan.effective, plan.revision, role.role)
