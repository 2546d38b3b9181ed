"""A cluster in memory: Deployments, pods, routers and autoscalers that do, when told to, what the real ones do.

Nothing happens by itself: a schedule says who takes a step, so that every order of events can come up. Objects are the
planner's own values, replaced whole, so that a view of the cluster is a copy of some dictionaries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import VersionState
from tandem_api.status import RouterStatus, ServiceStatus, VersionStatus, WorkerStatus
from tandem_operator.planning.observed import Autoscaler, Child, Deployment, Pod, RouterView, Trouble
from tandem_operator.planning.resolving import Role

from tests.rollouts.manifests import BROKEN, Ask, Manifests

UNPULLABLE = Trouble("ImagePullBackOff", "not found", "acme/worker:typo")


@dataclass(slots=True)
class Router:
    """A router: the status it acts on and the workers it has sessions with, both as old as its last look."""

    name: str
    versions: tuple[VersionState, ...] = ()
    sessions: frozenset[str] = frozenset()
    """Names of pods."""
    ready: bool = False
    silent_since: float | None = None
    answer: RouterStatus | None = None
    """What it says of itself, until that changes."""
    basis: int = 0
    """The look on which the operator decided the status that it acts on."""


@dataclass(slots=True)
class World:
    """All that there is. `step` counts events; `now` are seconds."""

    manifests: Manifests
    ask: Ask
    resource: InferenceService
    asks: dict[int, Ask] = field(default_factory=dict)
    """By generation."""
    step: int = 0
    now: float = 1000.0
    deployments: dict[str, Deployment] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """Of pods: their Deployment's name."""
    builds: dict[str, int] = field(default_factory=dict)
    """Of Deployments."""
    autoscalers: dict[str, Autoscaler] = field(default_factory=dict)
    children: dict[tuple[str, str], Child] = field(default_factory=dict)
    routers: list[Router] = field(default_factory=list)
    told: dict[tuple[str, bool], WorkerStatus] = field(default_factory=dict)
    """What routers say of pods, by name and whether they are up."""
    writes: int = 1
    """Of anything: resource versions and uids."""
    basis: int = 0
    """The look on which the operator decided the present status."""
    lowered: dict[str, int] = field(default_factory=dict)
    """By Deployment: the look on which its replicas were last lowered."""

    def version(self) -> str:
        self.writes += 1
        return str(self.writes)

    def change(self, ask: Ask) -> None:
        """The user applies another spec."""
        generation = self.resource.metadata.generation + 1
        self.ask = self.asks[generation] = ask
        self._replace(self.manifests.service(ask).model_copy(update={"status": self.resource.status}), generation)

    def write_status(self, status: Any, basis: int) -> None:
        self.basis = basis
        self._replace(self.resource.model_copy(update={"status": status}), self.resource.metadata.generation)

    def _replace(self, resource: InferenceService, generation: int) -> None:
        meta = resource.metadata.model_copy(update={"resource_version": self.version(), "generation": generation})
        self.resource = resource.model_copy(update={"metadata": meta})

    def pods_of(self, deployment: str) -> Iterator[Pod]:
        return (self.pods[name] for name, owner in self.owners.items() if owner == deployment)

    # What Kubernetes does.

    def control(self, deployment: Deployment, removing: Callable[[Pod], None]) -> bool:
        """A ReplicaSet's controller makes or removes one pod; those that are not ready go first."""
        live = [pod for pod in self.pods_of(deployment.name) if not pod.terminating]
        if len(live) < deployment.replicas:
            name = f"{deployment.name}-{self.version()}"
            self.owners[name] = deployment.name
            self.pods[name] = Pod(
                name, name, deployment.version, deployment.revision, deployment.role, created=self.now
            )
            return True
        if len(live) > deployment.replicas:
            removing(min(live, key=lambda pod: (pod.ready, pod.containers_ready, pod.routable, pod.name)))
            return True
        return False

    def kubelet(self, pod: Pod) -> bool:
        """A pod comes one step closer to being ready, or to being gone."""
        if pod.terminating:
            del self.pods[pod.name], self.owners[pod.name]
            return True
        broken = self.builds.get(self.owners[pod.name]) == BROKEN
        if broken:
            after = replace(pod, trouble=UNPULLABLE)
        elif not pod.containers_ready:
            after = replace(pod, containers_ready=True, trouble=None)
        else:
            after = replace(pod, ready=pod.routable)
        self.pods[pod.name] = after
        return after != pod

    def terminate(self, pod: Pod) -> None:
        self.pods[pod.name] = replace(pod, terminating=True, ready=False, containers_ready=False)

    def crash(self, pod: Pod) -> None:
        self.pods[pod.name] = replace(pod, ready=False, containers_ready=False, trouble=Trouble("Error", "exit code 1"))

    # What routers do.

    def look(self, router: Router, *, status: bool = True, workers: bool = True) -> bool:
        """A router acts on the present status, on the workers that there are, or on both: it watches them apart."""
        before = (router.versions, router.sessions, router.ready, router.silent_since)
        if router.silent_since is not None:
            status = workers = True  # it comes back
        if status:
            router.versions, router.basis = self.resource.status.versions if self.resource.status else (), self.basis
        if workers:
            known = {(version.name, revision.name) for version in router.versions for revision in version.revisions}
            router.sessions = frozenset(
                pod.name
                for pod in self.pods.values()
                if pod.containers_ready and not pod.terminating and (pod.version, pod.revision) in known
            )
            # Only with a session to every worker that serves is a router ready that starts.
            router.ready = router.ready or status
        router.silent_since = router.answer = None
        return before != (router.versions, router.sessions, router.ready, None)

    def view(self, router: Router) -> RouterView:
        """What the operator hears of it."""
        if router.answer is None:
            router.answer = self._answer(router)
        return RouterView(router.name, router.ready, router.silent_since, router.answer)

    def _answer(self, router: Router) -> RouterStatus:
        workers: dict[str, list[WorkerStatus]] = {}
        for name in router.sessions:
            if pod := self.pods.get(name):
                workers.setdefault(pod.version, []).append(self._worker(pod))
        versions = tuple(
            VersionStatus.model_construct(
                name=version.name,
                weight=version.weight or 0,
                effective_weight=0,
                held=version.held,
                revisions=tuple(revision.name for revision in version.revisions if revision.traffic),
                workers=tuple(workers.get(version.name, ())),
            )
            for version in router.versions
        )
        service = ServiceStatus.model_construct(name="llama", namespace="default", model="llama", versions=versions)
        return RouterStatus.model_construct(
            router=router.name, release="", ready=router.ready, services=(service,) if versions else ()
        )

    def _worker(self, pod: Pod) -> WorkerStatus:
        up = pod.containers_ready and not pod.terminating
        if (pod.name, up) not in self.told:
            self.told[pod.name, up] = WorkerStatus.model_construct(
                name=pod.name, role=pod.role, revision=pod.revision, connected=up, ready=up, draining=False
            )
        return self.told[pod.name, up]

    # What requests find.

    def able(self, router: Router) -> set[str]:
        """Versions that can serve a request that comes to this router now."""
        up: set[tuple[str, str, Role]] = {
            (pod.version, pod.revision, pod.role)
            for name in router.sessions
            if (pod := self.pods.get(name)) is not None and pod.ready
        }
        return {
            version.name
            for version in router.versions
            for revision in version.revisions
            if revision.traffic
            and (version.name, revision.name, "decode") in up
            and (not revision.disaggregated or (version.name, revision.name, "prefill") in up)
        }
