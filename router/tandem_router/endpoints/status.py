"""`GET /tandem/v1/status`: the state that this router acts on, in `tandem_api.status`'s shape."""

from collections import Counter
from importlib.metadata import version as release_of

from tandem_api.status import RouterStatus, ServiceStatus, VersionStatus, WorkerStatus

from tandem_router.router import Router
from tandem_router.scheduling.fleet import Service, Version
from tandem_router.scheduling.split import effective
from tandem_router.scheduling.worker import Worker


def status(router: Router) -> RouterStatus:
    """The whole answer."""
    return RouterStatus(
        router=router.settings.name,
        release=release_of("tandem-serving"),
        ready=router.ready,
        services=tuple(_service(service) for service in router.fleet.services.values()),
    )


def _service(service: Service) -> ServiceStatus:
    weights = effective(service.shares, lambda name: service.versions[name].ready)
    return ServiceStatus(
        name=service.name,
        namespace=service.namespace,
        model=service.model,
        observed=service.routes.observed if service.routes else "",
        queued=service.room.taken,
        experiments=() if service.counting is None else (service.counting.report(),),
        versions=tuple(_version(version, weights[version.name]) for version in service.versions.values()),
    )


def _version(version: Version, effective_weight: int) -> VersionStatus:
    measures = version.measures
    kv: dict[str, Counter[str]] = {"transferred": Counter(), "recomputed": Counter(), "whole": Counter()}
    for (outcome, reason), count in measures.kv.items():
        kv.setdefault(outcome, Counter())[reason] += count
    return VersionStatus(
        name=version.name,
        weight=version.weight,
        effective_weight=effective_weight,
        held=version.held,
        ttft_p95_seconds=measures.recent_ttft.quantile(0.95),
        requests=sum(measures.requests.values()),
        errors=measures.errors,
        transferred=kv["transferred"].total(),
        recomputed=dict(kv["recomputed"]),
        whole=dict(kv["whole"]),
        revisions=tuple(revision.name for revision in version.revisions if revision.traffic),
        workers=tuple(
            _worker(worker) for revision in version.revisions for worker in (*revision.prefill, *revision.decode)
        ),
    )


def _worker(worker: Worker) -> WorkerStatus:
    report = worker.report
    used = report.total_blocks - report.free_blocks
    return WorkerStatus(
        name=worker.name,
        role=worker.endpoint.role,
        revision=worker.revision,
        address=worker.endpoint.address,
        connected=worker.link.connected,
        ready=worker.ready,
        draining=report.draining or worker.leaving,
        open_calls=report.open_calls,
        running=report.running,
        waiting=report.waiting,
        kv_use=used / report.total_blocks if report.total_blocks else 0.0,
        leases=report.leases,
        staged_bytes=report.staged_bytes,
    )
