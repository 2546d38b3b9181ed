"""What an InferenceService needs, as values: pure functions, with no I/O and no clock.

`plan_service` renders what a service is to have in the end: revisions of versions and, for each role, the pod template
and ConfigMap of its workers. The operator applies them to a cluster, the local platform runs them as processes: both
render the very same. `plan` is the operator's: the next step from what a cluster holds towards that.
"""

from tandem_operator.planning.actions import Plan
from tandem_operator.planning.installation import Installation, Peer, Policies
from tandem_operator.planning.observed import Observed
from tandem_operator.planning.plan import plan
from tandem_operator.planning.rehearsal import rehearse
from tandem_operator.planning.resolving import ROLES, EffectiveVersion, Role, Settings, resolve
from tandem_operator.planning.revisions import revision_of
from tandem_operator.planning.routes import Endpoint, routes
from tandem_operator.planning.wanted import RevisionPlan, RolePlan, ServicePlan, plan_service, plan_services

__all__ = [
    "ROLES",
    "EffectiveVersion",
    "Endpoint",
    "Installation",
    "Observed",
    "Peer",
    "Plan",
    "Policies",
    "RevisionPlan",
    "Role",
    "RolePlan",
    "ServicePlan",
    "Settings",
    "plan",
    "plan_service",
    "plan_services",
    "rehearse",
    "resolve",
    "revision_of",
    "routes",
]
