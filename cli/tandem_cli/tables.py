"""A router's status as tables."""

from tandem_api.status import RouterStatus, VersionStatus, WorkerStatus

from tandem_cli.text import seconds, size, table


def services_table(status: RouterStatus) -> str:
    """One row a version."""
    header = (
        "SERVICE", "VERSION", "WEIGHT", "PREFILL", "DECODE", "RUNNING", "WAITING", "KV USE", "TTFT p95"
    )  # fmt: skip
    rows = [
        (
            service.name,
            version.name,
            _weight(version),
            _ready(version, "prefill"),
            _ready(version, "decode"),
            str(sum(worker.running for worker in version.workers)),
            str(sum(worker.waiting for worker in version.workers) + (service.queued if index == 0 else 0)),
            _percent(max((worker.kv_use for worker in version.workers if worker.role == "decode"), default=0.0)),
            "-" if version.ttft_p95_seconds is None else seconds(version.ttft_p95_seconds),
        )
        for service in status.services
        for index, version in enumerate(service.versions)
    ]
    return table(header, rows)


def workers_table(status: RouterStatus) -> str:
    """One row a worker."""
    header = (
        "WORKER", "ROLE", "STATE", "REVISION", "ADDRESS", "CALLS", "RUNNING", "WAITING", "KV USE", "LEASES", "STAGED"
    )  # fmt: skip
    rows = [
        (
            worker.name,
            worker.role,
            _state(worker),
            worker.revision,
            worker.address,
            str(worker.open_calls),
            str(worker.running),
            str(worker.waiting),
            _percent(worker.kv_use),
            str(worker.leases),
            size(worker.staged_bytes),
        )
        for service in status.services
        for version in service.versions
        for worker in version.workers
    ]
    return table(header, rows)


def platform_table(status: RouterStatus, url: str, connectors: dict[tuple[str, str], str]) -> str:
    """What `tandem up` prints when all is ready.

    Args:
        status: of the router.
        url: of the router.
        connectors: by namespace and name of a service, how its KV moves; absent for aggregated serving.
    """
    several = {service.name: len(service.versions) > 1 for service in status.services}
    rows = [
        (
            service.name,
            version.name + (f" {version.weight} %" if several[service.name] else ""),
            _roles(version),
            f"kv {kv}" if (kv := connectors.get((service.namespace, service.name))) else "aggregated",
        )
        for service in status.services
        for version in service.versions
    ]
    names, versions, roles = (max((len(row[column]) for row in rows), default=0) for column in range(3))
    names = max(names, len("router"))
    return "\n".join(
        [
            f"tandem  {'router':<{names}}  {url}",
            *(f"        {row[0]:<{names}}  {row[1]:<{versions}}  {row[2]:<{roles}}   {row[3]}" for row in rows),
        ]
    )


def _roles(version: VersionStatus) -> str:
    roles = ("prefill", "decode") if any(worker.role == "prefill" for worker in version.workers) else ("decode",)
    return "  ".join(f"{role} {_ready(version, role)}" for role in roles)


def _ready(version: VersionStatus, role: str) -> str:
    workers = [worker for worker in version.workers if worker.role == role]
    return f"{sum(worker.connected and worker.ready for worker in workers)}/{len(workers)}" if workers else "-"


def _weight(version: VersionStatus) -> str:
    """As asked for, and what is really served where that differs."""
    if version.effective_weight == version.weight:
        return str(version.weight)
    return f"{version.weight} ({version.effective_weight})"


def _state(worker: WorkerStatus) -> str:
    if not worker.connected:
        return "lost"
    if worker.draining:
        return "draining"
    return "ready" if worker.ready else "starting"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
