"""What an InferenceService needs, as values: pure functions, with no I/O and no clock.

`plan` renders revisions of versions and, for each role, the pod template and ConfigMap of its workers. The operator
applies them to a cluster, the local platform runs them as processes: both render the very same.
"""

from tandem_operator.planning.plan import RevisionPlan, RolePlan, ServicePlan, plan, plan_service
from tandem_operator.planning.rehearsal import rehearse
from tandem_operator.planning.resolving import ROLES, EffectiveVersion, Role, Settings, resolve
from tandem_operator.planning.revisions import revision_of
from tandem_operator.planning.routes import Endpoint, routes, taken

__all__ = [
    "ROLES",
    "EffectiveVersion",
    "Endpoint",
    "RevisionPlan",
    "Role",
    "RolePlan",
    "ServicePlan",
    "Settings",
    "plan",
    "plan_service",
    "rehearse",
    "resolve",
    "revision_of",
    "routes",
    "taken",
]
