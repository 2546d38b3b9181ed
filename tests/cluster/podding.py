"""Pods for the tests of the node."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode

IMAGE = "tandem-worker-virtual:test"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
FOREVER = ("sleep", "1000")


def container(*command: str, **fields: Any) -> dict[str, Any]:
    """A container that a restricted namespace admits."""
    return {
        "name": "main",
        "image": IMAGE,
        "command": command or FOREVER,
        "securityContext": RESTRICTED,
        **fields,
    }


def pod(name: str, *containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod that a restricted namespace admits, of one idle container where none is given."""
    context = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "securityContext": {**context, **spec.pop("securityContext", {})},
            "containers": containers or [container()],
            **spec,
        },
    }


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods of one test, in a namespace of their own."""

    cluster: Cluster
    node: ClusterNode
    namespace: str

    def start(self, *objects: dict[str, Any]) -> None:
        self.cluster.apply(*objects, namespace=self.namespace)

    def ready(self, name: str, *containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Starts a pod and returns it once it is Ready."""
        self.start(pod(name, *containers, **fields))
        return self.until(name, lambda found: condition(found, "Ready") == "True")

    def says(self, script: str, **fields: Any) -> str:
        """What a shell script in a container says; it has to exit 0."""
        spec = {name: fields.pop(name) for name in ("volumes", "securityContext", "initContainers") if name in fields}
        name = f"says-{time.monotonic_ns()}"
        self.start(pod(name, container("sh", "-c", script, **fields), restartPolicy="Never", **spec))
        ended = self.until(name, lambda found: phase(found) in ("Succeeded", "Failed"))
        said = self.node.log(self.namespace, name, "main")
        assert phase(ended) == "Succeeded", said
        return said

    def get(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("pod", name, namespace=self.namespace)
        return found

    def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The pod, once it meets a condition."""
        deadline = time.monotonic() + 90
        while not condition(found := self.get(name)):
            assert time.monotonic() < deadline, found["status"]
            time.sleep(0.1)
        return found

    def log(self, name: str, container: str = "main") -> str:
        return self.node.log(self.namespace, name, container)


def phase(found: dict[str, Any]) -> str:
    return str(found["status"].get("phase", ""))


def condition(found: dict[str, Any], kind: str) -> str:
    """The status of a condition, empty where it has none."""
    conditions = {one["type"]: one["status"] for one in found["status"].get("conditions", [])}
    return str(conditions.get(kind, ""))


def state(found: dict[str, Any], container: str = "main") -> dict[str, Any]:
    """A container's `state`."""
    return next((one["state"] for one in found["status"].get("containerStatuses", []) if one["name"] == container), {})
