"""A pod runs on the node as on a kubelet's."""

from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode

IMAGE = "tandem-worker-virtual:test"


def restricted(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container that a restricted namespace admits."""
    container = {
        "name": "main",
        "image": IMAGE,
        "command": command or ["sleep", "1000"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            **spec,
        },
    }


def test_a_pod_gets_ready(cluster: Cluster, cluster_node: ClusterNode, namespace: str) -> None:
    cluster.apply(restricted("one"), namespace=namespace)
    cluster.wait("pod/one", "Ready", namespace)
