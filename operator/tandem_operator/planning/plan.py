"""The operator's decision: from what a cluster holds, the next step towards what a service wants."""

from tandem_api.inference_service import InferenceService

from tandem_operator.planning.actions import Plan
from tandem_operator.planning.installation import Installation
from tandem_operator.planning.observed import Observed


def plan(resource: InferenceService, observed: Observed, now: float, installation: Installation) -> Plan:
    """What to do next for a service.

    Pure: the same arguments give the same plan. A plan that writes nothing says that all is as it should be, or that
    something is awaited (`awaits_routers`, `again_after`).

    Args:
        resource: The service, with the status and the resource version that were last read.
        observed: What the cluster holds for it.
        now: Unix seconds.
        installation: The operator's own.
    """
    raise NotImplementedError
