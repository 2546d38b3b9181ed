"""What must hold at every step, whatever happens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_api.inference_service import InferenceService, merged
from tandem_operator.planning.actions import Scale
from tandem_operator.planning.observed import Deployment
from tandem_operator.planning.resolving import Role
from tandem_operator.planning.routers import SILENCE
from tandem_operator.planning.stepping import Bounds, bounds

from tests.rollouts.world import Router, World


class Violated(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Watch:
    """Judges what the operator does to a world."""

    world: World
    harmed: dict[str, int] = field(default_factory=dict)
    """By version: the last step at which a crash, an eviction or a router took something."""
    moved: dict[str, int] = field(default_factory=dict)
    """By version: the last step at which an autoscaler wrote, of which the operator may not have heard yet."""
    excused: int = 0
    """Losses that a crash explains which the operator could not know of."""
    checked: int = 0

    def harm(self, version: str | None = None) -> None:
        for name in [version] if version else {pod.version for pod in self.world.pods.values()} | set(self.harmed):
            self.harmed[name] = self.world.step

    def before(self) -> list[set[str]]:
        """What each router can serve; nothing where it counts as lost, for it can't be waited for."""
        return [set() if self._lost(router) else self.world.able(router) for router in self.world.routers]

    def _lost(self, router: Router) -> bool:
        return router.silent_since is not None and self.world.now - router.silent_since >= SILENCE

    def after(self, before: list[set[str]], basis: int, what: str) -> None:
        """No version that served a router's requests has ceased to, for a reason that lies with the operator.

        Args:
            before: What each router could serve.
            basis: The step of the look on which the operator decided this.
            what: For the message.
        """
        self.checked += 1
        for router, was in zip(self.world.routers, before, strict=True):
            able = self.world.able(router)
            for name in was - able:
                if self._allowed(router, name, able):
                    continue
                # What takes over from a version that leaves may have been struck as well.
                left = name not in dict(self.world.ask.versions)
                struck = max(self.harmed.values(), default=-1) if left else self.harmed.get(name, -1)
                if struck >= basis:
                    self.excused += 1
                    continue
                raise Violated(f"{what}: requests for {name} at {router.name} can't be served any more")

    def _allowed(self, router: Router, name: str, able: set[str]) -> bool:
        told = {version.name: version for version in router.versions}
        version = told.get(name)
        if version is not None and version.held:
            return any(ask.surge == 0 for ask in self.world.asks.values())
        if version is None or name not in dict(self.world.ask.versions):
            # It was taken out of the spec: its share is served by those that stay.
            return any(told[other].weight for other in able)
        # The user asked for no workers.
        return self.world.ask.prefill == 0 or self.world.ask.decode == 0

    def scaled(
        self,
        scale: Scale,
        deployment: Deployment,
        service: InferenceService,
        desired: Mapping[Role, int],
        wanted: str,
        basis: int,
    ) -> None:
        """A write to a Deployment's replicas, just before it is done, keeps to the bounds.

        Args:
            scale: The write.
            deployment: As it is.
            service: As the operator saw it.
            desired: Workers asked for, by role, as the operator understood.
            wanted: The revision that the operator wants.
            basis: The step of the look on which it decided.
        """
        version, role = deployment.version, deployment.role
        if version not in {one.name for one in service.spec.versions} or role not in desired:
            return
        limit = bounds(service.spec.rollout, desired)[role]
        if scale.replicas > deployment.replicas:
            self._no_more_than(deployment, scale.replicas, desired[role] + limit.surge, basis)
        elif deployment.revision == wanted:
            if scale.replicas < desired[role]:
                raise Violated(f"{deployment.name} is wanted, and goes from {deployment.replicas} to {scale.replicas}")
        else:
            self._enough_left(deployment, scale.replicas, desired, limit, service, basis)
        scaler = next((one for one in self.world.autoscalers.values() if one.name == deployment.name), None)
        spec = merged(service.spec.role(role), service.version(version).role(role))
        if scaler is not None and spec is not None and spec.autoscaling is not None and deployment.replicas:
            raise Violated(f"{deployment.name} belongs to its autoscaler, and goes to {scale.replicas}")

    def created(self, version: str, role: Role, replicas: int, most: int, basis: int) -> None:
        """A Deployment that is made keeps to the bounds."""
        others = sum(
            one.replicas for one in self.world.deployments.values() if one.version == version and one.role == role
        )
        if others and replicas and others + replicas > most and self.moved.get(version, -1) < basis:
            raise Violated(f"{version} {role}: {others} and {replicas} more are above {most}")

    def _no_more_than(self, deployment: Deployment, replicas: int, most: int, basis: int) -> None:
        if self.moved.get(deployment.version, -1) >= basis:
            return
        peers = [
            one
            for one in self.world.deployments.values()
            if (one.version, one.role) == (deployment.version, deployment.role) and one.name != deployment.name
        ]
        total = replicas + sum(one.replicas for one in peers)
        if any(one.replicas for one in peers) and total > most:
            raise Violated(f"{deployment.name} to {replicas}: {total} {deployment.role} workers are above {most}")

    def _enough_left(
        self,
        deployment: Deployment,
        replicas: int,
        desired: Mapping[Role, int],
        limit: Bounds,
        service: InferenceService,
        basis: int,
    ) -> None:
        """As many serve as have to: workers that have no partner serve nobody and are not counted."""
        world, role = self.world, deployment.role
        peers = [one for one in world.deployments.values() if one.version == deployment.version]
        former = {one.revision for one in peers if one.replicas} - {deployment.revision}
        tight = limit.surge == 0 and (len(former) > 1 or any(count < 2 for count in desired.values()))
        if tight or not all(desired.values()) or self.harmed.get(deployment.version, -1) >= basis:
            return
        ready = {one.name: sum(pod.ready for pod in world.pods_of(one.name)) for one in peers}
        decoding = {one.revision for one in peers if one.role == "decode" and ready[one.name]}
        alone = {one.revision for one in peers if not ready[one.name] or one.revision not in decoding}

        def serving(one: Deployment, replicas: int) -> int:
            return 0 if one.revision in alone else min(replicas, ready[one.name])

        was = sum(serving(one, one.replicas) for one in peers if one.role == role)
        will = was - serving(deployment, deployment.replicas) + serving(deployment, replicas)
        # A further former revision goes whole where it can't keep a pair without leaving the wanted one no room.
        slack = max(0, len(former) - 1)
        if will < was and will < desired[role] - limit.unavailable - slack:
            raise Violated(f"{deployment.name} to {replicas}: {will} of {desired[role]} {role} workers would serve")
