"""From Kubernetes objects to the topology: pure, and only what changed is put together again.

Versions, their weights, and the revisions that take traffic come from the InferenceService's status, where the operator
has decided them; the workers from EndpointSlices, by the labels that these have from their Services. Workers of a
revision that the status does not name get a session as well, for that is what makes their pods ready, but no calls.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from typing import Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from tandem_api.inference_service import RoutingSpec
from tandem_api.inference_service.experiment import Criterion, Shadow
from tandem_api.inference_service.quantities import Duration
from tandem_api.ownership import Claim, taken
from tandem_api.topology import (
    ExperimentRoutes,
    RevisionEndpoints,
    ServiceRoutes,
    Topology,
    VersionRoutes,
    WorkerEndpoint,
)

from tandem_router.discovery.objects import Endpoint, EndpointSlice, InferenceService, Object, Revision, Version

_log = logging.getLogger(__name__)

SERVICE: Final = "tandem.dev/service"
VERSION: Final = "tandem.dev/version"
REVISION: Final = "tandem.dev/revision"
ROLE: Final = "tandem.dev/role"
PORT: Final = "grpc"
"""The name that the worker protocol's port has in Services."""

_DURATION: Final = TypeAdapter[float](Duration)
_CRITERIA: Final = TypeAdapter(tuple[Criterion, ...])
_SHADOW: Final = TypeAdapter[Shadow | None](Shadow | None)


K = TypeVar("K", bound=Object)


class Store(Generic[K]):
    """Objects of one kind as they were last heard of, by the service that they are of."""

    def __init__(self, service_of: Callable[[K], str], changed: Callable[[str], None]) -> None:
        """`service_of` gives an object's service as namespace/name; `changed` hears of each that has changed."""
        self._service_of = service_of
        self._changed = changed
        self._objects: dict[str, dict[str, K]] = {}

    def of(self, service: str) -> Collection[K]:
        return self._objects.get(service, {}).values()

    def listed(self, objects: Iterable[K], namespace: str) -> None:
        """All objects of a namespace; of all namespaces where that is empty."""
        for service in [key for key in self._objects if not namespace or key.startswith(f"{namespace}/")]:
            del self._objects[service]
            self._changed(service)
        for object in objects:
            self.changed(object)

    def changed(self, object: K) -> None:
        service = self._service_of(object)
        self._objects.setdefault(service, {})[object.metadata.key] = object
        self._changed(service)

    def deleted(self, object: K) -> None:
        service = self._service_of(object)
        known = self._objects.get(service, {})
        known.pop(object.metadata.key, None)
        if not known:
            self._objects.pop(service, None)
        self._changed(service)


class Cluster:
    """What routers need to know of a cluster. `topology` is cheap where little has changed."""

    def __init__(self, changed: Callable[[], object]) -> None:
        """`changed` is called whenever there may be another topology."""
        self.services = Store[InferenceService](lambda service: service.metadata.key, self._touch)
        self.slices = Store(_service_of, self._touch)
        self._changed = changed
        self._routes: dict[str, ServiceRoutes] = {}
        self._routings: dict[str, tuple[bytes, RoutingSpec]] = {}
        self._claims: dict[str, Claim] = {}
        self._stale: set[str] = set()
        self._taken: dict[str, str] = {}

    def _touch(self, service: str) -> None:
        self._stale.add(service)
        self._changed()

    def topology(self) -> Topology:
        """Routes of services that have not changed are the very objects that they were in the topology before."""
        while self._stale:
            key = self._stale.pop()
            service = next(iter(self.services.of(key)), None)
            if service is None:
                self._routes.pop(key, None)
                self._routings.pop(key, None)
                self._claims.pop(key, None)
            elif (routing := self._routing(key, service)) is not None:
                self._routes[key] = routes = _routes(service, routing, self.slices.of(key))
                self._claims[key] = Claim(key, routes.model, service.metadata.creation_timestamp or "")
        lost = taken(self._claims.values())
        for key in lost.keys() - self._taken.keys():
            _log.warning("%s is left out: its model name is %s's", key, lost[key])
        self._taken = lost
        # Every part of it is validated already.
        return Topology.model_construct(services=tuple(r for key, r in self._routes.items() if key not in lost))

    def _routing(self, key: str, service: InferenceService) -> RoutingSpec | None:
        """What the service says of routing. Where that can't be used, what it said before."""
        given = bytes(service.spec.routing) or b"{}"
        text, routing = self._routings.get(key, (b"", None))
        if routing is None or text != given:
            try:
                # A resource may be of a later release, whose additions are none of ours.
                routing = RoutingSpec.model_validate_json(given, extra="ignore")
                self._routings[key] = (given, routing)
            except ValidationError as error:
                _log.error("spec.routing of %s can't be used; what it said before stays in force: %s", key, error)
        return routing


def _service_of(slice: EndpointSlice) -> str:
    return f"{slice.metadata.namespace}/{(slice.metadata.labels or {}).get(SERVICE, '')}"


def _routes(service: InferenceService, routing: RoutingSpec, slices: Iterable[EndpointSlice]) -> ServiceRoutes:
    workers = _workers(slices)
    versions = (service.status and service.status.versions) or []
    return ServiceRoutes(
        name=service.metadata.name,
        namespace=service.metadata.namespace,
        model=service.spec.model or service.metadata.name,
        created=_unix_seconds(service.metadata.creation_timestamp),
        routing=routing,
        versions=tuple(_version(version, workers) for version in versions),
        experiment=_experiment(service),
        queue_timeout=_queue_timeout(service),
        observed=service.metadata.resource_version,
    )


def _experiment(service: InferenceService) -> ExperimentRoutes | None:
    """The operator has named it in status; what is measured stands in spec."""
    state, spec = service.status and service.status.experiment, service.spec.experiment
    if not state or spec is None:
        return None
    try:
        decide = _CRITERIA.validate_json(bytes(spec.decide) or b"[]", extra="ignore")
        shadow = _SHADOW.validate_json(bytes(spec.shadow) or b"null", extra="ignore")
    except ValidationError as error:
        _log.error(
            "spec.experiment of %s can't be used; it counts as if it said nothing: %s", service.metadata.key, error
        )
        decide, shadow = (), None
    return ExperimentRoutes(
        id=state.id,
        champion=state.champion,
        challenger=state.challenger,
        decide=decide,
        shadow=shadow if state.phase == "Running" else None,
    )


_Workers = dict[tuple[str, str], dict[str, WorkerEndpoint]]
"""By version and revision, then by name."""


def _workers(slices: Iterable[EndpointSlice]) -> _Workers:
    workers: _Workers = {}
    # A pod of a dual-stack cluster is in two slices: IPv4 comes last, and stays.
    for slice in sorted(slices, key=lambda one: (one.address_type, one.metadata.name), reverse=True):
        labels = slice.metadata.labels or {}
        of_revision = workers.setdefault((labels.get(VERSION, ""), labels.get(REVISION, "")), {})
        for worker in _endpoints(slice, labels.get(ROLE, "")):
            of_revision[worker.name] = worker
    return workers


def _endpoints(slice: EndpointSlice, role: str) -> Iterator[WorkerEndpoint]:
    port = next((port.port for port in slice.ports or () if port.name == PORT), None)
    if port is None or (role != "prefill" and role != "decode"):
        return
    for endpoint in slice.endpoints or ():
        host = endpoint.addresses[0]
        ready, terminating = _conditions(endpoint)
        yield WorkerEndpoint(
            name=(endpoint.target_ref and endpoint.target_ref.name) or host,
            role=role,
            address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            ready=ready,
            terminating=terminating,
        )


def _conditions(endpoint: Endpoint) -> tuple[bool, bool]:
    said = endpoint.conditions
    if said is None:
        return True, False
    return said.ready is not False, bool(said.terminating)


def _version(version: Version, workers: _Workers) -> VersionRoutes:
    named = version.revisions or []
    names = {revision.name for revision in named}
    others = sorted(revision for of, revision in workers if of == version.name and revision not in names)
    return VersionRoutes(
        name=version.name,
        weight=version.weight or 0,
        revisions=(
            *(_revision(revision, workers.get((version.name, revision.name), {})) for revision in named),
            *(_revision(Revision(name, traffic=False), workers[version.name, name]) for name in others),
        ),
        held=version.held,
    )


def _revision(revision: Revision, workers: dict[str, WorkerEndpoint]) -> RevisionEndpoints:
    return RevisionEndpoints(
        name=revision.name,
        disaggregated=revision.disaggregated,
        traffic=revision.traffic,
        workers=tuple(workers[name] for name in sorted(workers)),
    )


def _queue_timeout(service: InferenceService) -> float:
    given = service.spec.rollout and service.spec.rollout.queue_timeout
    return _DURATION.validate_python(given) if given else float(ServiceRoutes.model_fields["queue_timeout"].default)


def _unix_seconds(timestamp: str | None) -> int:
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0
