"""Services, versions and workers as they are served at the moment: a topology made alive, with a link to each worker.

Each topology that discovery finds takes the place of the one before. What is in both stays as it is, with its session,
queue and counts; a worker that left takes no more calls, and its session ends when those that run are over.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import ExperimentRoutes, RevisionEndpoints, ServiceRoutes, Topology, WorkerEndpoint
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.experiments.counting import Counting
from tandem_router.experiments.trial import Trial
from tandem_router.failures import CallFailed
from tandem_router.ids import Origin
from tandem_router.scheduling.pairing import Pairing, Revision
from tandem_router.scheduling.policies import policy
from tandem_router.scheduling.queueing import Queue, Room
from tandem_router.scheduling.split import Share, choose, fnv1a_64
from tandem_router.scheduling.worker import Worker
from tandem_router.telemetry.measures import VersionMeasures

_WorkerKey = tuple[str, str, str, str, str]
"""Version, revision, role, name and address: a name or an address may be used again."""


@dataclass(slots=True, eq=False)
class Version:
    """One version of a service."""

    name: str
    service: "Service"
    queue: Queue
    measures: VersionMeasures
    origin: Origin
    weight: int = 0
    revisions: list[Revision] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """A request may begin on it, and be served."""
        return any(revision.traffic and revision.usable for revision in self.revisions)

    def no_worker(self, path: str, feature: str) -> CallFailed:
        """Why a request that needs a feature finds no worker."""
        ready = [worker for revision in self.revisions for worker in revision.decode if worker.ready]
        if feature and ready and not any(feature in worker.features for worker in ready):
            text = f"the model's workers do not serve {path}: they are of an earlier release of Tandem"
            return CallFailed(pb.INVALID_REQUEST, text, reason="not_served")
        return CallFailed(pb.UNAVAILABLE, "no worker of the model is ready", reason="no_worker")

    @property
    def held(self) -> bool:
        """It can't serve for a moment, but is to come back: requests may wait for it."""
        return self.queue.held


@dataclass(slots=True, eq=False)
class Service:
    """One InferenceService."""

    name: str
    namespace: str
    model: str
    created: int
    routing: RoutingSpec
    room: Room
    versions: dict[str, Version] = field(default_factory=dict)
    shares: tuple[Share, ...] = ()
    workers: dict[_WorkerKey, Worker] = field(default_factory=dict)
    routes: ServiceRoutes | None = None
    """What it was last made of."""
    counting: Counting | None = None
    """What is counted of its experiment."""

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def shadowed(self) -> bool:
        """Some of its requests are copied."""
        return bool(self.routes and self.routes.experiment and self.routes.experiment.shadow)

    def version_for(self, key: str) -> Version | None:
        """The version that serves a key; where none is ready, one that it may wait for; None where there is none."""
        if len(self.versions) == 1:
            (version,) = self.versions.values()
            return version if version.weight and (version.ready or version.held) else None
        salt = self.routes.experiment.id if self.routes and self.routes.experiment else ""
        name = choose(self.shares, key, lambda name: self.versions[name].ready, salt)
        if name is None:
            name = choose(self.shares, key, lambda name: self.versions[name].held, salt)
        return None if name is None else self.versions[name]

    def trial(self, version: Version, key: str, *, sticky: bool) -> Trial | None:
        """A request of that version as a trial of the experiment; None where there is nothing to compare."""
        experiment = self.routes.experiment if self.routes else None
        if self.counting is None or experiment is None:
            return None
        pair = self.versions.get(experiment.champion), self.versions.get(experiment.challenger)
        champion, challenger = pair
        if champion is None or challenger is None or version not in pair:
            return None
        if not 0 < challenger.weight < 100 or not champion.ready or not challenger.ready:
            return None
        hashed = fnv1a_64((experiment.id + key).encode()) if sticky or self.counting.scored else None
        return Trial(self.counting, challenger.weight, version is challenger, hashed, sticky)


class Fleet:
    """All services. `tasks` owns the links' tasks; `clock` counts seconds."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        router: str,
        tls: Tls | None,
        clock: Callable[[], float],
        measures: Callable[[str, str], VersionMeasures],
        counting: Callable[[ExperimentRoutes], Counting],
    ) -> None:
        self.services: dict[str, Service] = {}
        """By the model's name."""
        self.known = False
        """A topology has been seen."""
        self._tasks = tasks
        self._counting = counting
        self._router = router
        self._tls = tls
        self._clock = clock
        self._measures = measures
        self._links: dict[asyncio.Task[None], Worker] = {}
        self._turns = itertools.count(1)

    @property
    def workers(self) -> Iterator[Worker]:
        for service in self.services.values():
            yield from service.workers.values()

    @property
    def placed(self) -> int:
        """Places that calls hold, also at workers that have left and finish their calls."""
        return sum(worker.placed for worker in self._links.values())

    @property
    def leases(self) -> int:
        """Leases that calls hold, in the same way."""
        return sum(worker.leases for worker in self._links.values())

    def apply(self, topology: Topology) -> None:
        """Puts `topology` in the place of what was."""
        self.known = True
        before = {(s.namespace, s.name): s for s in self.services.values()}
        services: dict[str, Service] = {}
        for routes in topology.services:
            service = before.pop((routes.namespace, routes.name), None) or _service(routes)
            self._apply_service(service, routes)
            services[routes.model] = service
        self.services = services
        for service in before.values():
            self._apply_service(service, _emptied(service))

    def _apply_service(self, service: Service, routes: ServiceRoutes) -> None:
        if routes is service.routes:
            # Sources hand on what has not changed: one service's change costs nothing for the others.
            return
        service.routes = routes
        service.model, service.created, service.routing = routes.model, routes.created, routes.routing
        if routes.experiment is None:
            service.counting = None
        elif service.counting is None or service.counting.id != routes.experiment.id:
            service.counting = self._counting(routes.experiment)
        service.room.limit = routes.routing.queue.max_waiting
        service.shares = tuple(Share(version.name, version.weight) for version in routes.versions)
        old_workers, service.workers = service.workers, {}
        old_versions, service.versions = service.versions, {}
        for version_routes in routes.versions:
            version = old_versions.pop(version_routes.name, None) or self._version(service, version_routes.name)
            version.weight = version_routes.weight
            version.queue.routing = routes.routing
            version.queue.pairing = self._pairing(routes.routing)
            version.queue.room = _room(service, routes, version.name)
            version.queue.hold(routes.queue_timeout if version_routes.held else None)
            service.versions[version.name] = version
            kept = {revision.name: revision for revision in version.revisions}
            version.revisions = [
                self._revision(service, version, endpoints, kept.get(endpoints.name), old_workers)
                for endpoints in version_routes.revisions
            ]
        for worker in old_workers.values():
            worker.retire()
        for version in old_versions.values():
            version.revisions = []
            version.queue.close()
        for version in service.versions.values():
            version.queue.pump()

    def _version(self, service: Service, name: str) -> Version:
        version: Version
        queue = Queue(self._pairing(service.routing), lambda: version.revisions, service.room, service.routing)
        origin = Origin(service.full_name, name)
        version = Version(name, service, queue, self._measures(service.full_name, name), origin)
        return version

    def _pairing(self, routing: RoutingSpec) -> Pairing:
        return Pairing(policy(routing.policy), routing.disaggregate_from, self._turns.__next__)

    def _revision(
        self,
        service: Service,
        version: Version,
        routes: RevisionEndpoints,
        kept: Revision | None,
        old: dict[_WorkerKey, Worker],
    ) -> Revision:
        # The object stays, because calls that hold places refer to it.
        revision = kept or Revision(routes.name, routes.disaggregated)
        revision.disaggregated, revision.traffic = routes.disaggregated, routes.traffic
        revision.prefill, revision.decode = [], []
        for endpoint in routes.workers:
            key = (version.name, routes.name, endpoint.role, endpoint.name, endpoint.address)
            worker = old.pop(key, None) or self._worker(service, version, routes.name, endpoint)
            worker.endpoint = endpoint
            if endpoint.terminating:
                worker.leave()
            service.workers[key] = worker
            (revision.prefill if endpoint.role == "prefill" else revision.decode).append(worker)
        return revision

    def _worker(self, service: Service, version: Version, revision: str, endpoint: WorkerEndpoint) -> Worker:
        identity = pb.Identity(
            name=endpoint.name,
            role=pb.ROLE_PREFILL if endpoint.role == "prefill" else pb.ROLE_DECODE,
            service=service.full_name,
            model=service.model,
            version=version.name,
            revision=revision,
        )
        worker = Worker(
            endpoint, identity, router=self._router, tls=self._tls, clock=self._clock, changed=version.queue.pump
        )
        task = self._tasks.create_task(worker.link.run(), name=f"link to {endpoint.name}")
        self._links[task] = worker
        task.add_done_callback(self._links.pop)
        return worker

    async def close(self, timeout: float) -> None:
        """Ends all sessions: those without calls by a farewell, so that leases given back are heard of, all in time."""
        for worker in self.workers:
            worker.link.close()
        if self._links:
            await asyncio.wait(self._links, timeout=timeout)
        for task in list(self._links):
            task.cancel()


def _service(routes: ServiceRoutes) -> Service:
    room = Room(routes.routing.queue.max_waiting)
    return Service(routes.name, routes.namespace, routes.model, routes.created, routes.routing, room)


def _room(service: Service, routes: ServiceRoutes, version: str) -> Room:
    """Where a version's requests wait: copies in a room of their own, so that they take nobody's place."""
    experiment = routes.experiment
    if experiment and experiment.shadow and experiment.challenger == version:
        return Room(experiment.shadow.max_in_flight)
    return service.room


def _emptied(service: Service) -> ServiceRoutes:
    """The routes of a service that is gone."""
    return ServiceRoutes(
        name=service.name, namespace=service.namespace, model=service.model, routing=service.routing, versions=()
    )
