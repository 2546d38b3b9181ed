"""What routers are told: from plans and the workers that run for them to the topology."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tandem_api.topology import RevisionEndpoints, ServiceRoutes, VersionRoutes, WorkerEndpoint

from tandem_operator.planning.resolving import Role
from tandem_operator.planning.wanted import RevisionPlan, ServicePlan


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A worker that runs. `name` is its pod's, `address` host:port of its worker protocol."""

    version: str
    revision: str
    role: Role
    name: str
    address: str


def routes(plan: ServicePlan, endpoints: Iterable[Endpoint], created: int = 0) -> ServiceRoutes:
    """How requests for a service reach its workers.

    Args:
        plan: The service's.
        endpoints: Its workers, whether ready or not; those of versions that are gone are left out.
        created: Unix seconds, for /v1/models.
    """
    running = sorted(endpoints, key=lambda endpoint: endpoint.name)
    service = plan.service
    return ServiceRoutes(
        name=service.metadata.name,
        namespace=service.metadata.namespace,
        model=service.model,
        created=created,
        routing=service.spec.routing,
        queue_timeout=service.spec.rollout.queue_timeout,
        versions=tuple(
            VersionRoutes(
                name=wanted.version,
                weight=wanted.weight,
                revisions=_revisions(wanted, [one for one in running if one.version == wanted.version]),
            )
            for wanted in plan.revisions
        ),
    )


def _revisions(wanted: RevisionPlan, running: Sequence[Endpoint]) -> tuple[RevisionEndpoints, ...]:
    """The wanted revision first, then former ones whose workers still run."""
    former = dict.fromkeys(one.revision for one in running if one.revision != wanted.revision)
    return tuple(
        _revision(name, wanted.disaggregated if name == wanted.revision else None, running)
        for name in (wanted.revision, *former)
    )


def _revision(name: str, disaggregated: bool | None, running: Sequence[Endpoint]) -> RevisionEndpoints:
    mine = [one for one in running if one.revision == name]
    return RevisionEndpoints(
        name=name,
        disaggregated=any(one.role == "prefill" for one in mine) if disaggregated is None else disaggregated,
        workers=tuple(WorkerEndpoint(name=one.name, role=one.role, address=one.address) for one in mine),
    )
