"""Who decides how many workers a role has, and the HorizontalPodAutoscaler that does while autoscaling is on.

An autoscaler alone owns the replicas of the revision that serves. A rollout needs them for itself: it sets the
autoscaler aside (deletes it) once the count that it last asked for stands in status, keeps to that count, and in the
end an autoscaler is made for the revision that then serves.
"""

from typing import Any, Final

from tandem_api.inference_service import RoleSpec
from tandem_api.inference_service.roles import AutoscalingMetric
from tandem_api.inference_service.status import RoleStatus

from tandem_operator.planning.names import ROLE, SERVICE, VERSION, labels
from tandem_operator.planning.observed import Autoscaler
from tandem_operator.planning.resolving import Role
from tandem_operator.planning.staff import Revision
from tandem_operator.planning.wanted import RevisionPlan, RolePlan

_METRICS: Final = {"queueDepth": "tandem_queue_depth", "kvUse": "tandem_kv_use", "ttft": "tandem_ttft"}
_BEHAVIOUR: Final = {
    # A model takes minutes to load: more workers come at once, fewer only when the load has stayed low for long.
    "scaleUp": {
        "stabilizationWindowSeconds": 30,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 60},
            {"type": "Pods", "value": 2, "periodSeconds": 60},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "selectPolicy": "Min",
        "policies": [
            {"type": "Percent", "value": 25, "periodSeconds": 60},
            {"type": "Pods", "value": 2, "periodSeconds": 60},
        ],
    },
}


def desired(spec: RoleSpec, scaler: Autoscaler | None, target: Revision | None, last: RoleStatus | None) -> int:
    """How many workers a role of a version is to have.

    Args:
        spec: The role's.
        scaler: Its autoscaler, if there is one.
        target: The revision that the autoscaler scales.
        last: The role in status, as it was last written.
    """
    if spec.autoscaling is None:
        return 1 if spec.replicas is None else spec.replicas
    if scaler is not None and target is not None and (count := target.role(scaler.role).replicas):
        return count
    count = last.desired if last is not None else 0
    return min(max(count, spec.autoscaling.min), spec.autoscaling.max)


def autoscaler(plan: RevisionPlan, role: RolePlan) -> dict[str, Any]:
    """The HorizontalPodAutoscaler of one role, without what all children have."""
    scaling = role.spec.autoscaling
    assert scaling is not None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": role.name, "labels": labels(plan.effective, plan.revision, role.role)},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": role.name},
            "minReplicas": scaling.min,
            "maxReplicas": scaling.max,
            "metrics": [_metric(metric, plan, role.role) for metric in scaling.metrics],
            "behavior": _BEHAVIOUR,
        },
    }


def _metric(metric: AutoscalingMetric, plan: RevisionPlan, role: Role) -> dict[str, Any]:
    of_role = {SERVICE: plan.effective.service, VERSION: plan.version, ROLE: role}
    kind, field = ("AverageValue", "averageValue") if metric.name == "queueDepth" else ("Value", "value")
    return {
        "type": "External",
        "external": {
            "metric": {"name": _METRICS[metric.name], "selector": {"matchLabels": of_role}},
            "target": {"type": kind, field: quantity(metric.target)},
        },
    }


def quantity(target: str) -> str:
    """A target as a Kubernetes quantity: "80%" is 800m, "500ms" (in seconds) 500m, "4" is 4."""
    for unit, thousandths in (("%", 10.0), ("ms", 1.0), ("s", 1000.0), ("", 1000.0)):
        if target.endswith(unit):
            milli = round(float(target.removesuffix(unit)) * thousandths)
            return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
    raise AssertionError(target)
