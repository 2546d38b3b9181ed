"""A simulated cluster in which all goes well, for stories that a reader can follow."""

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import Condition, InferenceServiceStatus
from tandem_operator.planning import Installation, Observed, Plan, plan
from tandem_operator.planning.actions import Event

from tests.rollouts.driving import Operator
from tests.rollouts.manifests import Ask, Manifests
from tests.rollouts.watching import Watch
from tests.rollouts.world import Router, World


class Story:
    """One service, from `ask` on."""

    def __init__(self, ask: Ask, routers: int = 2) -> None:
        manifests = Manifests()
        self.world = World(manifests, ask, manifests.service(ask), asks={1: ask})
        self.world.routers = [Router(f"router-{number}") for number in range(routers)]
        self.watch = Watch(self.world)
        self.events: list[Event] = []
        self.seen: list[InferenceServiceStatus] = []
        """Each status that was written."""
        self.operator = Operator(self.world, self.watch, self._plan)

    def _plan(self, resource: InferenceService, observed: Observed, now: float, installation: Installation) -> Plan:
        made = plan(resource, observed, now, installation)
        if made.status is not None:
            self.events += made.events
            self.seen.append(made.status)
        return made

    def round(self, *, deaf: Router | None = None) -> bool:
        """Everybody does once what is to do, but for a router that is deaf."""
        world = self.world
        world.step += 1
        world.now += 6.0
        self.operator.restart()
        busy = self.operator.act()
        for deployment in list(world.deployments.values()):
            while world.control(deployment, world.terminate):
                busy = True
        for pod in list(world.pods.values()):
            busy = world.kubelet(pod) or busy
        for router in world.routers:
            if router is deaf:
                continue
            before = self.watch.before()
            busy = world.look(router) or busy
            self.watch.after(before, router.basis, router.name)
        return busy

    def settle(self) -> "Story":
        for _ in range(60):
            if not self.round():
                return self
        raise AssertionError("is not at rest")

    def ask(self, ask: Ask) -> "Story":
        self.world.change(ask)
        return self

    @property
    def status(self) -> InferenceServiceStatus:
        assert self.world.resource.status is not None
        return self.world.resource.status

    def condition(self, type: str) -> Condition:
        return next(condition for condition in self.status.conditions if condition.type == type)

    def replicas(self, version: str = "v1") -> dict[str, dict[str, int]]:
        """By revision and role."""
        found: dict[str, dict[str, int]] = {}
        for one in self.world.deployments.values():
            if one.version == version:
                found.setdefault(one.revision, {})[one.role] = one.replicas
        return found

    def revision(self, ask: Ask, version: str = "v1") -> str:
        self.world.manifests.service(ask)
        return self.world.manifests.revisions[ask, version]

    def pods(self) -> set[str]:
        return {pod.name for pod in self.world.pods.values() if not pod.terminating}
