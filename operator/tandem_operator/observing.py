"""What the planner is told: from the store, the routers' answers and the resolved sources, for one service."""

from collections.abc import Mapping

from tandem_api.experiments import ExperimentReport
from tandem_api.ownership import Claim, taken

from tandem_operator.planning.experiments.progress import Recorded
from tandem_operator.planning.observed import Autoscaler, Child, Deployment, Observed, Pod, Resolution, RouterView
from tandem_operator.store import Key, Store
from tandem_operator.views import ServiceView


def observe(
    store: Store,
    key: Key,
    service: ServiceView,
    routers: tuple[RouterView, ...],
    sources: Mapping[str, Resolution],
    reports: tuple[ExperimentReport, ...],
    outcomes: Mapping[str, Recorded],
) -> Observed:
    """All about one service. Children that a former resource of its name left behind are not its own."""
    uid = service.resource["metadata"]["uid"]
    deployments, pods, autoscalers, children = [], [], [], []
    for record in store.of(key):
        match record.view:
            case Pod() as pod:
                pods.append(pod)
            case Deployment() as deployment if record.owner == uid:
                deployments.append(deployment)
            case Autoscaler() as autoscaler if record.owner == uid:
                autoscalers.append(autoscaler)
            case Child() as child if record.owner == uid:
                children.append(child)
    return Observed(
        deployments=tuple(deployments),
        pods=tuple(pods),
        autoscalers=tuple(autoscalers),
        children=tuple(children),
        routers=routers,
        name_owner=name_owner(store, key, service),
        sources=sources,
        reports=reports,
        outcomes=outcomes,
    )


def name_owner(store: Store, key: Key, service: ServiceView) -> str | None:
    """namespace/name of the service whose model name this one claims, too; None: it is this one's."""
    claims = (Claim("/".join(other), view.model, view.created) for other, view in store.claimants(service.model))
    return taken(claims).get("/".join(key))
