"""From what routers say to the numbers that autoscalers go by.

Each router tells a worker's load as it last heard of it, so the same worker is in every answer: its highest load
counts, once. A router's own queue is its alone: queues add up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tandem_api.status import RouterStatus, ServiceStatus, VersionStatus, WorkerStatus

from tandem_operator.planning.names import ROLE, SERVICE, VERSION

METRICS: Final = ("tandem_queue_depth", "tandem_kv_use", "tandem_ttft")
"""Waiting requests of a role's workers and, in front of them, in the routers; the used share of its KV blocks, 0 to 1;
p95 of the time to first token, in seconds."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a metric is about: one role of one version of a service."""

    namespace: str
    service: str
    version: str
    role: str

    @classmethod
    def of(cls, namespace: str, labels: Mapping[str, str]) -> "Scope":
        """From the labels of a selector.

        Raises:
            ValueError: it does not name service, version and role, or names more.
        """
        wanted = (SERVICE, VERSION, ROLE)
        if set(labels) != set(wanted):
            raise ValueError(f"the selector must have the labels {', '.join(wanted)}, and has {', '.join(labels)}")
        return cls(namespace, *(labels[label] for label in wanted))


def value(metric: str, scope: Scope, routers: Iterable[RouterStatus]) -> float | None:
    """A metric now; None where nobody can tell.

    Raises:
        KeyError: there is no such metric.
    """
    if metric not in METRICS:
        raise KeyError(metric)
    seen = [found for router in routers if (found := _find(router, scope)) is not None]
    workers = _workers(seen, scope.role)
    if metric == "tandem_ttft":
        # No p95 of all requests follows from those of each router: the worst one speaks.
        told = [version.ttft_p95_seconds for _, version in seen if version.ttft_p95_seconds is not None]
        return max(told, default=0.0) if seen else None
    if metric == "tandem_kv_use":
        return sum(worker.kv_use for worker in workers) / len(workers) if workers else None
    queued = sum(service.queued * _share(version) for service, version in seen)
    return sum(worker.waiting for worker in workers) + queued if seen else None


def _find(router: RouterStatus, scope: Scope) -> tuple[ServiceStatus, VersionStatus] | None:
    for service in router.services:
        if (service.namespace, service.name) == (scope.namespace, scope.service):
            for version in service.versions:
                if version.name == scope.version:
                    return service, version
    return None


def _share(version: VersionStatus) -> float:
    """Of a service's queue, what waits for this version."""
    return version.effective_weight / 100


def _workers(seen: Iterable[tuple[ServiceStatus, VersionStatus]], role: str) -> list[WorkerStatus]:
    busiest: dict[str, WorkerStatus] = {}
    for _, version in seen:
        for worker in version.workers:
            if worker.role == role and not worker.draining:
                known = busiest.get(worker.name)
                if known is None or (known.waiting, known.kv_use) < (worker.waiting, worker.kv_use):
                    busiest[worker.name] = worker
    return list(busiest.values())
