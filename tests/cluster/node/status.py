"""A pod's status, as a kubelet writes it, from what the runner sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_cli.runner import ContainerState, PodState

from tests.cluster.network import CLUSTER_ADDRESS
from tests.cluster.node.api import Object
from tests.cluster.node.walls import find_container


@dataclass(slots=True)
class _Times:
    """What the runner's state does not remember of a container."""

    state: ContainerState | None = None
    ready: bool = False
    started: str = ""
    ended: str = ""
    last: Object = field(default_factory=dict)
    """The run before, as `lastState`."""


class StatusBook:
    """Follows a pod's states from its first on; every change has to be entered, since times are those of entries."""

    def __init__(self, pod: Object, first: PodState, now: str) -> None:
        self._pod = pod
        self._begun = now
        self._now = now
        self._state = first
        self._times = {container.name: _Times() for container in first.all_containers}
        self._turned: dict[str, tuple[bool, str]] = {}

    def enter(self, state: PodState, now: str, stopping: bool) -> None:
        """Takes note of a state.

        Where the pod is being deleted (`stopping`), a container that was ready stays so until it has ended, as to a
        kubelet, whose probes go on.
        """
        self._state, self._now = state, now
        for container in state.all_containers:
            times = self._times[container.name]
            before = times.state
            phase = "waiting" if before is None else before.phase
            if container.phase == "running" and phase != "running":
                times.started = now
            elif container.phase == "terminated" and phase != "terminated":
                times.ended = now
            elif container.phase == "waiting" and before is not None and phase == "terminated":
                times.last = {"terminated": _terminated(before, times)}
            times.ready = (times.ready if stopping else container.ready) and container.phase == "running"
            times.state = container

    def status(self, observed: Object) -> Object:
        """The status for a strategic merge patch; `observed` is the pod with others' conditions, the gates."""
        containers = [self._container(container) for container in self._state.containers]
        all_ready = self._state.initialized and all(container["ready"] for container in containers)
        gates = [gate["conditionType"] for gate in self._pod["spec"].get("readinessGates", [])]
        true = {item["type"] for item in observed.get("status", {}).get("conditions", []) if item["status"] == "True"}
        lacking = [gate for gate in gates if gate not in true]
        not_ready = [container["name"] for container in containers if not container["ready"]]
        unready = ("ContainersNotReady", f"containers with unready status: {not_ready}") if not_ready else None
        gated = ("ReadinessGatesNotReady", f"readiness gates not true: {lacking}") if lacking else None
        conditions = [
            self._condition("PodReadyToStartContainers", not self._state.problem, None),
            self._condition("Initialized", self._state.initialized, None),
            self._condition("ContainersReady", all_ready, unready),
            self._condition("Ready", all_ready and not lacking, unready or gated),
        ]
        inits = [self._container(container) for container in self._state.init_containers]
        return {
            "phase": self._phase(),
            "message": self._state.problem or None,
            "hostIP": CLUSTER_ADDRESS,
            "podIP": self._state.address,
            "podIPs": [{"ip": self._state.address}],
            "startTime": self._begun,
            "conditions": conditions,
            "containerStatuses": containers,
            **({"initContainerStatuses": inits} if inits else {}),
        }

    def _phase(self) -> str:
        """To a kubelet a pod is pending until each of its containers has been started once."""
        begun = all(self._times[container.name].started for container in self._state.containers)
        return "Pending" if self._state.phase == "Running" and not begun else self._state.phase

    def _container(self, container: ContainerState) -> Object:
        times = self._times[container.name]
        image = find_container(self._pod, container.name)["image"]
        return {
            "name": container.name,
            "image": image,
            "imageID": f"process://{image}",
            "containerID": f"process://{container.pid}" if container.pid else "",
            "ready": times.ready or (container in self._state.init_containers and container.exit_code == 0),
            "started": container.started,
            "restartCount": container.restarts,
            "state": _state(container, times),
            "lastState": times.last,
        }

    def _condition(self, kind: str, value: bool, why: tuple[str, str] | None) -> Mapping[str, Any]:
        if kind not in self._turned or self._turned[kind][0] != value:
            self._turned[kind] = (value, self._now)
        reason, message = (None, None) if value or why is None else why
        return {
            "type": kind,
            "status": str(value),
            "reason": reason,
            "message": message,
            "lastTransitionTime": self._turned[kind][1],
        }


def _state(container: ContainerState, times: _Times) -> Object:
    """Exactly one of the three; None takes the others out of what a patch is merged into."""
    state: Object = {"waiting": None, "running": None, "terminated": None}
    if container.phase == "running":
        state["running"] = {"startedAt": times.started}
    elif container.phase == "terminated":
        state["terminated"] = _terminated(container, times)
    else:
        state["waiting"] = {"reason": container.reason, "message": container.message or None}
    return state


def _terminated(container: ContainerState, times: _Times) -> Object:
    return {
        "exitCode": container.exit_code,
        "reason": container.reason,
        "message": container.message or None,
        "startedAt": times.started or times.ended,
        "finishedAt": times.ended,
    }
