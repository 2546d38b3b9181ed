"""The node itself: its object, its lease, and the pods that are bound to it."""

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Final

from tests.cluster.network import CLUSTER_ADDRESS
from tests.cluster.node.api import MERGE, Api, ApiError, Object
from tests.cluster.node.pod import Machine, PodLife

_LOGGER = logging.getLogger(__name__)
_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RENEW_SECONDS: Final = 10
_CAPACITY: Final = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "500"}
"""More than the machine has: tests are about Tandem's requests, not about this machine's size."""


class Node:
    """One node of the cluster, cordoned at first. `run` does all of it, for ever."""

    def __init__(self, name: str, resources: Mapping[str, str], machine: Machine) -> None:
        self._name = name
        self._capacity = {**_CAPACITY, **resources}
        self._machine = machine
        self._api: Api = machine.api
        self._pods: dict[str, PodLife] = {}
        self._begun = ""

    def runs(self, namespace: str, pod: str) -> bool:
        """Whether a pod of this name has processes on the node."""
        return any(life.key == (namespace, pod) and not life.ended for life in self._pods.values())

    def hurry(self) -> None:
        """Cuts the grace of all pods short: the node itself ends."""
        for life in self._pods.values():
            life.hurry()

    async def run(self, log_port: int) -> None:
        """Registers the node, renews its lease and runs its pods. `log_port` is where `kubectl logs` is sent."""
        await self._register(log_port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew())

            def on_list(pods: list[Object]) -> None:
                for uid in self._pods.keys() - {pod["metadata"]["uid"] for pod in pods}:
                    self._forget(uid)
                for pod in pods:
                    self._see(pod, group)

            def on_event(kind: str, pod: Object) -> None:
                if kind != "DELETED":
                    self._see(pod, group)
                else:
                    self._forget(pod["metadata"]["uid"])

            await self._api.follow("/api/v1/pods", f"fieldSelector=spec.nodeName%3D{self._name}", on_list, on_event)

    def _see(self, pod: Object, group: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._pods:
            self._pods[uid].see(pod)
        elif (
            pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]
        ):
            self._pods[uid] = PodLife(pod, self._machine)
            group.create_task(self._live(self._pods[uid]), name=f"pod {pod['metadata']['name']}")

    def _forget(self, uid: str) -> None:
        """Not before the API server has: late events of a pod that has ended must not begin it again."""
        life = self._pods.pop(uid, None)
        if life is not None:
            life.forget()

    async def _live(self, life: PodLife) -> None:
        try:
            await life.live()
        except Exception:
            # One pod's end must not be all pods' end; what was wrong stands in the node's log.
            _LOGGER.exception("pod %s", life.key)

    async def _register(self, log_port: int) -> None:
        labels = {"kubernetes.io/hostname": self._name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels},
                "spec": {"unschedulable": True}}  # fmt: skip
        await self._api.create("/api/v1/nodes", node)
        await self._api.create(
            _LEASES,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": {
                    "holderIdentity": self._name,
                    "leaseDurationSeconds": 40,
                    "renewTime": _micros(self._machine.now),
                },
            },
        )
        self._begun = self._now()
        status = {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            "addresses": [{"type": "InternalIP", "address": CLUSTER_ADDRESS}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": log_port}},
            "conditions": self._conditions(),
            "nodeInfo": dict.fromkeys(_NODE_INFO, "") | {"kubeletVersion": "v1.36.3", "operatingSystem": "linux"},
        }
        await self._api.patch(f"/api/v1/nodes/{self._name}/status", {"status": status})

    def _conditions(self) -> list[Object]:
        well = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
        times = {"lastHeartbeatTime": self._now(), "lastTransitionTime": self._begun}
        return [
            {"type": kind, "status": value, "reason": "Test", "message": None, **times} for kind, value in well.items()
        ]

    def _now(self) -> str:
        return self._machine.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._api.patch(
                    f"{_LEASES}/{self._name}", {"spec": {"renewTime": _micros(self._machine.now)}}, MERGE
                )
                # Who did not hear of a lease for a while takes a node for lost, until that says again how it is.
                status = {"conditions": self._conditions()}
                await self._api.patch(f"/api/v1/nodes/{self._name}/status", {"status": status})
            except ApiError as error:
                _LOGGER.warning("%s", error)


_NODE_INFO: Final = (
    *("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "kubeletVersion"),
    *("machineID", "operatingSystem", "osImage", "systemUUID"),
)
"""What the API demands to be there."""


def _micros(now: Callable[[], datetime.datetime]) -> str:
    return now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
