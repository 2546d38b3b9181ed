"""From objects as an API server writes them to the planner's values: what decides, and nothing else.

A value that stays equal means that there is nothing to look at, however often its object was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from tandem_operator.cluster import FIELD_MANAGER
from tandem_operator.planning.actions import Kind
from tandem_operator.planning.drift import Fields
from tandem_operator.planning.experiments.conducting import RECORD
from tandem_operator.planning.names import APPLIED, REVISION, ROLE, ROUTABLE, SERVICE, VERSION
from tandem_operator.planning.observed import Autoscaler, Child, Deployment, Pod, Trouble
from tandem_operator.planning.resolving import Role

_STARTING: Final = {"ContainerCreating", "PodInitializing"}
_LOOPS: Final = 2
"""Restarts from which on a container that is not ready counts as crashing in a loop."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceView:
    """An InferenceService as it was last read."""

    resource: Json
    """Without managedFields."""
    model: str
    created: str
    deleting: bool


View = Deployment | Pod | Autoscaler | Child | ServiceView


def view_of(kind: str, obj: Json) -> View | None:
    """The planner's value of an object; None for one that its labels say nothing about."""
    labels = obj["metadata"].get("labels") or {}
    match kind:
        case "InferenceService":
            return _service(obj)
        case "Deployment" | "Pod" | "HorizontalPodAutoscaler" if not {VERSION, REVISION, ROLE} <= labels.keys():
            return None
        case "Deployment":
            return _deployment(obj)
        case "Pod":
            return _pod(obj)
        case "HorizontalPodAutoscaler":
            return _autoscaler(obj)
        case "Service" | "ConfigMap" | "ServiceAccount" | "PodDisruptionBudget" | "NetworkPolicy":
            return _child(kind, obj)
        case _:
            raise ValueError(f"{kind} is none of what is watched")


def same(one: View | None, other: View | None) -> bool:
    """Whether nothing has changed that anyone decides on."""
    if isinstance(one, Deployment) and isinstance(other, Deployment):
        # Its status moves the version, too; that is looked up when a write needs it.
        return replace(one, resource_version="") == replace(other, resource_version="")
    return one == other


def service_label(kind: str, obj: Json) -> str:
    """The name of the InferenceService that an object belongs to; empty: of none."""
    if kind == "InferenceService":
        return str(obj["metadata"]["name"])
    return str((obj["metadata"].get("labels") or {}).get(SERVICE, ""))


def owner_of(obj: Json) -> str:
    """The uid of its controller, if it has one."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((str(one["uid"]) for one in references if one.get("controller")), "")


def _service(obj: Json) -> ServiceView:
    meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    model = (obj.get("spec") or {}).get("model")
    return ServiceView(
        resource={**obj, "metadata": meta},
        model=model if isinstance(model, str) and model else meta["name"],
        created=meta.get("creationTimestamp") or "",
        deleting="deletionTimestamp" in meta,
    )


def _deployment(obj: Json) -> Deployment:
    meta, spec = obj["metadata"], obj["spec"]
    containers: Sequence[Json] = spec["template"]["spec"].get("containers") or ({},)
    return Deployment(
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        version=meta["labels"][VERSION],
        revision=meta["labels"][REVISION],
        role=_role(obj),
        replicas=spec.get("replicas", 1),
        created=seconds(meta.get("creationTimestamp")),
        image=containers[0].get("image", ""),
        deleting="deletionTimestamp" in meta,
    )


def _pod(obj: Json) -> Pod:
    meta, status = obj["metadata"], obj.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}

    def holds(type: str) -> bool:
        return bool(conditions.get(type, {}).get("status") == "True")

    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        version=meta["labels"][VERSION],
        revision=meta["labels"][REVISION],
        role=_role(obj),
        created=seconds(meta.get("creationTimestamp")),
        containers_ready=holds("ContainersReady"),
        routable=holds(ROUTABLE),
        ready=holds("Ready"),
        terminating="deletionTimestamp" in meta or status.get("phase") in ("Succeeded", "Failed"),
        trouble=_trouble(status, conditions.get("PodScheduled", {})),
    )


def _trouble(status: Json, scheduled: Json) -> Trouble | None:
    """Of the first container that can't go on, init containers first; else of the scheduler."""
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state, image = container.get("state") or {}, container.get("image", "")
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and (reason := waiting.get("reason", "")) and reason not in _STARTING:
            before = (container.get("lastState") or {}).get("terminated")
            message = _ended(before) if before else waiting.get("message", "")
            return Trouble(reason=reason, message=message, image=image)
        if ended and ended.get("exitCode"):
            return Trouble(reason=ended.get("reason") or "Error", message=_ended(ended), image=image)
        if not container.get("ready") and container.get("restartCount", 0) >= _LOOPS and "running" in state:
            # Between two crashes it runs for a while: that it crashes in a loop is no less true.
            before = (container.get("lastState") or {}).get("terminated")
            return Trouble(reason="CrashLoopBackOff", message=_ended(before) if before else "", image=image)
    if scheduled.get("status") == "False":
        return Trouble(reason=scheduled.get("reason", ""), message=scheduled.get("message", ""))
    return None


def _ended(terminated: Json) -> str:
    """How a container ended, and its last words."""
    reason, code = terminated.get("reason") or "Error", terminated.get("exitCode")
    words = str(terminated.get("message") or "").strip()
    return f"it ended with code {code} ({reason})" + (f": {words}" if words else "")


def _autoscaler(obj: Json) -> Autoscaler:
    meta, status = obj["metadata"], obj.get("status") or {}
    active = next((one for one in status.get("conditions") or () if one["type"] == "ScalingActive"), None)
    return Autoscaler(
        name=meta["name"],
        uid=meta["uid"],
        version=meta["labels"][VERSION],
        revision=meta["labels"][REVISION],
        role=_role(obj),
        desired=status.get("desiredReplicas") if "lastScaleTime" in status or active else None,
        active=None if active is None else active["status"] == "True",
        message=active.get("message", "") if active and active["status"] != "True" else "",
        applied=(meta.get("annotations") or {}).get(APPLIED, ""),
        fields=_fields(meta),
    )


def _child(kind: Kind, obj: Json) -> Child:
    meta = obj["metadata"]
    return Child(
        kind=kind,
        name=meta["name"],
        uid=meta["uid"],
        version=meta["labels"].get(VERSION, ""),
        revision=meta["labels"].get(REVISION, ""),
        applied=(meta.get("annotations") or {}).get(APPLIED, ""),
        fields=_fields(meta),
        record=(obj.get("data") or {}).get(RECORD, "") if kind == "ConfigMap" else "",
    )


def _fields(meta: Json) -> Fields:
    """Those that the operator has applied, and that nobody has changed since."""
    for one in meta.get("managedFields") or ():
        if (one["manager"], one["operation"], one.get("subresource")) == (FIELD_MANAGER, "Apply", None):
            fields: Fields = one["fieldsV1"]
            return fields
    return {}


def _role(obj: Json) -> Role:
    return "prefill" if obj["metadata"]["labels"][ROLE] == "prefill" else "decode"


def seconds(timestamp: str | None) -> float:
    """RFC 3339 as Unix seconds; 0 where there is none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
