"""The operator in a simulated cluster: it looks, plans and writes, from views that lag and with writes that fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import InferenceServiceStatus
from tandem_operator.planning import Installation, Observed, Plan
from tandem_operator.planning.actions import Delete, Gate, Scale
from tandem_operator.planning.names import REVISION, ROLE, VERSION
from tandem_operator.planning.observed import Autoscaler, Child, Deployment, Pod, RouterView
from tandem_operator.planning.resolving import Role
from tandem_operator.planning.stepping import bounds

from tests.operator.making import fields_of
from tests.rollouts.watching import Violated, Watch
from tests.rollouts.world import World

Planner = Callable[[InferenceService, Observed, float, Installation], Plan]
INSTALLATION = Installation(url="http://router")


@dataclass(slots=True)
class View:
    """What the operator believes. Each part is as old as its last refresh, but holds what it wrote itself."""

    resource: InferenceService
    deployments: dict[str, Deployment] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    autoscalers: dict[str, Autoscaler] = field(default_factory=dict)
    children: dict[tuple[str, str], Child] = field(default_factory=dict)
    routers: tuple[RouterView, ...] = ()
    seen: dict[str, int] = field(default_factory=dict)
    """When each part was refreshed."""


class Operator:
    """One operator. `locked`: the API server refuses writes that were decided on what no longer holds."""

    def __init__(self, world: World, watch: Watch, planner: Planner, *, locked: bool = True) -> None:
        self._world, self._watch, self._planner, self._locked = world, watch, planner, locked
        self.view = View(world.resource)
        self.restart()

    def restart(self) -> None:
        """It forgets everything and lists all anew."""
        for part in ("resource", "deployments", "pods", "autoscalers", "children", "routers"):
            self.refresh(part)

    def refresh(self, part: str) -> None:
        world, view = self._world, self.view
        match part:
            case "resource":
                view.resource = world.resource
            case "deployments":
                view.deployments = dict(world.deployments)
            case "pods":
                view.pods = dict(world.pods)
            case "autoscalers":
                view.autoscalers = dict(world.autoscalers)
            case "children":
                view.children = dict(world.children)
            case _:
                view.routers = tuple(world.view(router) for router in world.routers)
        view.seen[part] = world.step

    def plan(self) -> Plan:
        view = self.view
        observed = Observed(
            deployments=tuple(view.deployments.values()),
            pods=tuple(view.pods.values()),
            autoscalers=tuple(view.autoscalers.values()),
            children=tuple(view.children.values()),
            routers=view.routers,
        )
        return self._planner(view.resource, observed, self._world.now, INSTALLATION)

    def act(self, random: Random | None = None) -> bool:
        """Plans and carries it out; with `random`, in any order, with failures, and dying in the middle.

        Returns:
            Whether anything was to be written.
        """
        plan = self.plan()
        status = plan.status or self.view.resource.status
        assert status is not None
        resource, basis = self.view.resource, min(self.view.seen.values())
        actions: list[Any] = [*plan.gates, *plan.apply, *plan.scale, *plan.delete]
        actions += [plan.status] if plan.status is not None else []
        if random is not None and random.random() < 0.5:
            random.shuffle(actions)
        for action in actions:
            chance = random.random() if random is not None else 1.0
            if chance < 0.03:
                self.restart()
                break
            if chance > 0.07:  # else a conflict
                self._do(action, resource, status, basis)
        return plan.writes

    def _do(self, action: Any, resource: InferenceService, status: InferenceServiceStatus, basis: int) -> None:
        match action:
            case Gate():
                self._gate(action)
            case Scale():
                self._scale(action, resource, status, basis)
            case Delete():
                self._delete(action, basis)
            case InferenceServiceStatus():
                self._write_status(action, resource, basis)
            case _:
                self._apply(action, resource, status, basis)

    def _gate(self, gate: Gate) -> None:
        if pod := self._world.pods.get(gate.pod):
            if not pod.containers_ready and not pod.trouble and not pod.terminating:
                raise Violated(f"{gate.pod} is let in before it is up")
            self._world.pods[gate.pod] = replace(pod, routable=True)
        if pod := self.view.pods.get(gate.pod):
            self.view.pods[gate.pod] = replace(pod, routable=True)

    def _scale(self, scale: Scale, resource: InferenceService, status: InferenceServiceStatus, basis: int) -> None:
        there = self._world.deployments.get(scale.deployment)
        if there is None or there.uid != scale.uid:
            return
        if self._locked and there.resource_version != scale.resource_version:
            return
        desired, wanted = _wanted(status, there.version)
        self._watch.scaled(scale, there, resource, desired, wanted, basis)
        if scale.replicas < there.replicas:
            self._world.lowered[there.name] = basis
        self._put(replace(there, replicas=scale.replicas, resource_version=self._world.version()))

    def _put(self, deployment: Deployment) -> None:
        self._world.deployments[deployment.name] = deployment
        if self._locked:
            self.view.deployments[deployment.name] = deployment

    def _delete(self, delete: Delete, basis: int) -> None:
        world, view = self._world, self.view
        if delete.kind == "Deployment":
            there = world.deployments.get(delete.name)
            stale = there is not None and there.resource_version != delete.resource_version
            if there is None or there.uid != delete.uid or (self._locked and stale):
                return
            before = self._watch.before()
            for pod in list(world.pods_of(delete.name)):
                if not pod.terminating:
                    world.terminate(pod)
            del world.deployments[delete.name]
            view.deployments.pop(delete.name, None)
            self._watch.after(before, basis, f"deleting {delete.name}")
        elif delete.kind == "HorizontalPodAutoscaler":
            world.autoscalers.pop(delete.name, None)
            view.autoscalers.pop(delete.name, None)
        else:
            world.children.pop((delete.kind, delete.name), None)
            view.children.pop((delete.kind, delete.name), None)

    def _write_status(self, status: InferenceServiceStatus, resource: InferenceService, basis: int) -> None:
        world = self._world
        if self._locked and world.resource.metadata.resource_version != resource.metadata.resource_version:
            return
        world.write_status(status, basis)
        self.view.resource = world.resource

    def _apply(
        self, manifest: Mapping[str, Any], resource: InferenceService, status: InferenceServiceStatus, basis: int
    ) -> None:
        world, view = self._world, self.view
        kind, meta = manifest["kind"], manifest["metadata"]
        name, labels, applied = meta["name"], meta["labels"], meta["annotations"]["tandem.dev/applied"]
        version, revision = labels.get(VERSION, ""), labels.get(REVISION, "")
        role: Role = "prefill" if labels.get(ROLE) == "prefill" else "decode"
        if kind == "Deployment":
            if name in world.deployments:  # a view that lags: server-side apply would set the replicas
                return
            replicas = manifest["spec"]["replicas"]
            desired, _ = _wanted(status, version)
            limit = bounds(resource.spec.rollout, desired)[role]
            self._watch.created(version, role, replicas, desired[role] + limit.surge, basis)
            made = Deployment(
                name, world.version(), str(world.writes), version, revision, role, replicas, created=world.now
            )
            world.builds[name] = world.manifests.builds[revision]
            world.deployments[name] = view.deployments[name] = made
        elif kind == "HorizontalPodAutoscaler":
            known = world.autoscalers.get(name)
            scaler = replace(
                known or Autoscaler(name, world.version(), version, revision, role),
                applied=applied,
                fields=fields_of(manifest),
            )
            world.autoscalers[name] = view.autoscalers[name] = scaler
        else:
            child = Child(kind, name, world.version(), version, revision, applied, fields_of(manifest))
            world.children[(kind, name)] = view.children[(kind, name)] = child


def _wanted(status: InferenceServiceStatus, version: str) -> tuple[dict[Role, int], str]:
    """Workers asked for by role, and the wanted revision, as the operator understands the spec."""
    for state in status.versions:
        if state.name == version:
            roles: dict[Role, int] = {}
            if state.prefill is not None:
                roles["prefill"] = state.prefill.desired
            if state.decode is not None:
                roles["decode"] = state.decode.desired
            return roles, state.revision
    return {}, ""
