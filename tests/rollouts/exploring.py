"""Random schedules: everything that can happen to a service, in any order, and then nothing more until all is calm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tandem_operator.planning.observed import Deployment, Pod

from tests.rollouts.driving import Operator, Planner
from tests.rollouts.manifests import BROKEN, Ask, Manifests
from tests.rollouts.watching import Violated, Watch
from tests.rollouts.world import Router, World

CALM = 80
"""Rounds after which a cluster in which nothing happens has to be at rest."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a schedule came to."""

    checked: int
    excused: int
    rounds: int
    """Until it was calm."""


class Schedule:
    """One schedule, by its seed. `locked`: as of `Operator`."""

    def __init__(self, seed: int, manifests: Manifests, planner: Planner, *, locked: bool = True) -> None:
        self.random = Random(seed)
        ask = self._first()
        self.world = World(manifests, ask, manifests.service(ask), asks={1: ask})
        self.world.routers = [Router(f"router-{number}") for number in range(self.random.choice((1, 1, 2, 3)))]
        self.watch = Watch(self.world)
        self.operator = Operator(self.world, self.watch, planner, locked=locked)
        self.scaled = 0
        """What the autoscaler last asked for."""

    def run(self, events: int | None = None) -> Result:
        """Some calm, a storm, and calm again.

        Raises:
            Violated: something did not hold.
        """
        if self.random.random() < 0.7:
            self._calm()
        doings = self._doings()
        names, weights = list(doings), [weight for _, weight in doings.values()]
        for name in self.random.choices(names, weights, k=events or self.random.randrange(15, 60)):
            self.world.step += 1
            self.world.now += self.random.choice((0.1, 1.0, 7.0))
            doings[name][0]()
        rounds = self._calm()
        self._at_rest()
        return Result(self.watch.checked, self.watch.excused, rounds)

    def _doings(self) -> dict[str, tuple[Callable[[], object], int]]:
        return {
            "operator": (self._operate, 24),
            "controller": (self._control, 16),
            "kubelet": (self._kubelet, 22),
            "router": (self._look, 14),
            "restart": (self.operator.restart, 1),
            "crash": (self._crash, 2),
            "evict": (self._evict, 2),
            "silence": (self._silence, 1),
            "router restarts": (self._router_restarts, 1),
            "user": (self._user, 4),
            "autoscaler": (self._autoscale, 2),
        }

    # What happens.

    def _operate(self) -> None:
        for part in ("resource", "deployments", "pods", "autoscalers", "children", "routers"):
            if self.random.random() < 0.75:
                self.operator.refresh(part)
        self.operator.act(self.random)

    def _control(self) -> None:
        if deployments := list(self.world.deployments.values()):
            deployment = self.random.choice(deployments)
            for _ in range(self.random.choice((1, 1, 3))):
                self.world.control(deployment, lambda pod: self._remove(deployment, pod))

    def _remove(self, deployment: Deployment, pod: Pod) -> None:
        before = self.watch.before() if pod.ready else []
        self.world.terminate(pod)
        if pod.ready:
            self.watch.after(before, self.world.lowered.get(deployment.name, 0), f"removing {pod.name}")

    def _kubelet(self) -> None:
        if pods := list(self.world.pods.values()):
            for pod in self.random.sample(pods, min(len(pods), 3)):
                self.world.kubelet(pod)

    def _look(self) -> None:
        status, workers = self.random.choice(((True, True), (True, False), (False, True)))
        self._look_at(self.random.choice(self.world.routers), status=status, workers=workers)

    def _look_at(self, router: Router, *, status: bool = True, workers: bool = True) -> bool:
        before = self.watch.before()
        changed = self.world.look(router, status=status, workers=workers)
        self.watch.after(before, router.basis, f"{router.name} acts on status")
        return changed

    def _crash(self) -> None:
        if up := [pod for pod in self.world.pods.values() if pod.containers_ready]:
            pod = self.random.choice(up)
            self.world.crash(pod)
            self.watch.harm(pod.version)

    def _evict(self) -> None:
        if live := [pod for pod in self.world.pods.values() if not pod.terminating]:
            pod = self.random.choice(live)
            self.world.terminate(pod)
            self.watch.harm(pod.version)

    def _silence(self) -> None:
        router = self.random.choice(self.world.routers)
        router.silent_since = self.world.now if router.silent_since is None else None

    def _router_restarts(self) -> None:
        router = self.random.choice(self.world.routers)
        router.versions, router.sessions, router.ready, router.answer = (), frozenset(), False, None
        self.watch.harm()

    def _autoscale(self) -> None:
        for scaler in list(self.world.autoscalers.values()):
            deployment = self.world.deployments.get(scaler.name)
            if deployment is not None and deployment.replicas:
                self.scaled = self.random.randrange(1, 7)
                self.watch.moved[deployment.version] = self.world.step
                if self.scaled < deployment.replicas:
                    self.watch.harm(deployment.version)
                self.world.deployments[scaler.name] = replace(
                    deployment, replicas=self.scaled, resource_version=self.world.version()
                )

    # What users do.

    def _first(self) -> Ask:
        pick = self.random.choice
        surge = pick((0, 1, 1, 1, 2))
        return Ask(
            versions=pick(((("v1", 0),), (("v1", 0),), (("v1", 0), ("v2", 1)))),
            prefill=pick((None, 1, 1, 1, 2, 2, 3)),
            decode=pick((1, 1, 2, 2, 3, 4)),
            surge=surge,
            unavailable=pick((0, 0, 1)) if surge else pick((1, 2)),
            automatic=self.random.random() < 0.15,
        )

    def _user(self) -> None:
        ask, pick = self.world.ask, self.random.choice
        name = pick([name for name, _ in ask.versions])
        match pick(("build", "build", "revert", "revert", "break", "scale", "prefill", "versions", "auto", "rollout")):
            case "build":
                ask = ask.with_build(name, pick((0, 1, 2, 3)))
            case "revert":
                ask = pick(list(self.world.asks.values()))
            case "break":
                ask = ask.with_build(name, BROKEN)
            case "scale":
                ask = replace(ask, decode=pick((1, 2, 3, 4)), prefill=ask.prefill and pick((1, 2, 3)))
            case "prefill":
                ask = replace(ask, prefill=None if ask.prefill and self.random.random() < 0.3 else pick((1, 2)))
            case "versions":
                ask = replace(ask, versions=pick((ask.versions[:1], (("v2", 1),), (("v1", 0), ("v2", 1)))))
            case "auto":
                ask = replace(ask, automatic=not ask.automatic)
            case _:
                ask = replace(ask, surge=pick((1, 2)), unavailable=pick((0, 1)))
        if ask != self.world.ask:
            self.world.change(ask)

    # Calm.

    def _calm(self) -> int:
        """Everybody does what is to do, in turn, with views that are fresh, until nobody has anything to do."""
        turns: dict[str, int] = {}
        rising: dict[str, bool] = {}
        idle = 0
        for round in range(CALM):
            self.world.step += 1
            self.world.now += 6.0
            before = dict(self.world.deployments)
            self.operator.restart()
            busy = self.operator.act()
            self._count_turns(before, turns, rising)
            for deployment in list(self.world.deployments.values()):
                while self.world.control(deployment, lambda pod, deployment=deployment: self._remove(deployment, pod)):
                    busy = True
            for pod in list(self.world.pods.values()):
                busy = self.world.kubelet(pod) or busy
            for router in self.world.routers:
                busy = self._look_at(router) or busy
            # Routers are heard one round after they have changed.
            idle = 0 if busy else idle + 1
            if idle > 1:
                return round
        raise Violated(f"is not at rest after {CALM} rounds: {self.operator.plan()}")

    def _count_turns(self, before: dict[str, Deployment], turns: dict[str, int], rising: dict[str, bool]) -> None:
        """Replicas that go up and down again, or the other way round, while nothing happens, flap."""
        for name, deployment in self.world.deployments.items():
            was = before.get(name)
            if was is None or was.replicas == deployment.replicas:
                continue
            up = deployment.replicas > was.replicas
            if rising.setdefault(name, up) != up:
                rising[name] = up
                turns[name] = turns.get(name, 0) + 1
                if turns[name] > 1:
                    raise Violated(f"{name} flaps")

    def _at_rest(self) -> None:
        """All is as the spec wants it, if it can be, and then nothing is written."""
        world, ask = self.world, self.world.ask
        if (plan := self.operator.plan()).writes:
            raise Violated(f"writes at rest: {plan}")
        for name, build in ask.versions:
            own = {one.revision: one for one in world.deployments.values() if one.version == name}
            wanted = world.manifests.revisions[ask, name]
            if wanted not in own:
                raise Violated(f"{name}: revision {wanted} of build {build} is not there")
            if build == BROKEN:
                continue
            if set(own) != {wanted}:
                raise Violated(f"{name}: revisions {set(own)} are there, {wanted} is wanted")
            self._counts(name)
        if set(dict(ask.versions)) < {one.version for one in world.deployments.values()} and not any(
            build == BROKEN for _, build in ask.versions
        ):
            raise Violated("workers of a version that is gone are still there")
        served = all(
            world.able(router) >= {n for n, build in ask.versions if build != BROKEN} for router in world.routers
        )
        ready = world.resource.status and world.resource.status.conditions[0].status == "True"
        if not served or (not ready and not all(build == BROKEN for _, build in ask.versions)):
            raise Violated(f"does not serve in the end: ready {ready}, served {served}")

    def _counts(self, version: str) -> None:
        world, ask = self.world, self.world.ask
        roles = {one.role: one.replicas for one in world.deployments.values() if one.version == version}
        wanted = {} if ask.prefill is None else {"prefill": ask.prefill}
        if not ask.automatic:
            wanted["decode"] = ask.decode
        elif not any(one.version == version for one in world.autoscalers.values()):
            raise Violated(f"{version} has no autoscaler")
        if {role: count for role, count in roles.items() if role in wanted} != wanted:
            raise Violated(f"{version} has {roles}, and {wanted} is asked for")
        if not ask.automatic and world.autoscalers:
            raise Violated("an autoscaler is left")
