"""What users are told: a service's status, and events about it."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tandem_operator.cluster import EVENT, FIELD_MANAGER, SERVICES, ApiError, Cluster, Refused
from tandem_operator.planning.actions import Event
from tandem_operator.store import Key, Store
from tandem_operator.views import Json, ServiceView

REMEMBERED_EVENTS: Final = 1024

_log = logging.getLogger(__name__)


def with_condition(status: Json, type: str, reason: str, message: str, generation: int, now: str) -> dict[str, Any]:
    """A status in which one condition is another: `Ready` False, or another type True.

    All else stays, so that routers go on with what they serve.
    """
    value = "False" if type == "Ready" else "True"
    conditions = list(status.get("conditions") or ())
    before = next((one for one in conditions if one["type"] == type), None)
    since = before.get("lastTransitionTime") if before and before["status"] == value else None
    made = {
        "type": type,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since or now,
        "observedGeneration": generation,
    }
    changed = [made if one["type"] == type else one for one in conditions]
    return {**status, "conditions": changed if before else [*changed, made], "observedGeneration": generation}


def refusal(errors: Sequence[Refused]) -> tuple[str, str]:
    """Reason and message of writes that the API server will refuse again."""
    first, more = errors[0], len(errors) - 1
    hint = (
        "give the operator's ServiceAccount the permission, or free the quota"
        if first.status == 403
        else "a policy of the cluster, or what the service asks for, has to change"
    )
    rest = f" (and {more} more)" if more else ""
    return first.reason or "Refused", f"the API server refuses to {first.what}: {first.message}{rest}; {hint}"


class StatusWriter:
    """Writes statuses, where they differ from what is there."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster = cluster
        self._store = store

    async def write(self, key: Key, service: ServiceView, status: Json) -> bool:
        """Returns whether it wrote.

        Raises:
            ApiError: `Conflict` where the resource is no longer the one that was decided on.
        """
        if status == (service.resource.get("status") or {}):
            return False
        meta = service.resource["metadata"]
        body = {
            "apiVersion": SERVICES.api_version,
            "kind": SERVICES.name,
            "metadata": {
                "name": key[1],
                "namespace": key[0],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "status": status,
        }
        self._store.put(SERVICES.name, await self._cluster.apply(SERVICES, key[0], body, "status"))
        return True


@dataclass(slots=True)
class _Told:
    first: str
    count: int


class Events:
    """Posts events; the same one again counts up the one that is there."""

    def __init__(self, cluster: Cluster, timestamp: Callable[[], str], instance: str) -> None:
        self._cluster = cluster
        self._timestamp = timestamp
        self._instance = instance
        self._told: OrderedDict[tuple[str, Event], _Told] = OrderedDict()

    async def post(self, service: ServiceView, events: Iterable[Event]) -> None:
        """Tells of a service. That an event can't be posted is logged, and no more."""
        meta = service.resource["metadata"]
        for event in events:
            try:
                await self._cluster.apply(EVENT, meta["namespace"], self._object(meta, event))
            except ApiError as error:
                _log.warning("can't post an event", extra={"error": str(error), "reason": event.reason})

    def _object(self, meta: Mapping[str, Any], event: Event) -> dict[str, Any]:
        now = self._timestamp()
        told = self._told.setdefault((meta["uid"], event), _Told(now, 0))
        told.count += 1
        self._told.move_to_end((meta["uid"], event))
        if len(self._told) > REMEMBERED_EVENTS:
            self._told.popitem(last=False)
        same = hashlib.sha256(f"{meta['uid']}/{event.type}/{event.reason}/{event.message}".encode()).hexdigest()[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{same}", "namespace": meta["namespace"]},
            "involvedObject": {
                "apiVersion": SERVICES.api_version,
                "kind": SERVICES.name,
                "name": meta["name"],
                "namespace": meta["namespace"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "firstTimestamp": told.first,
            "lastTimestamp": now,
            "count": told.count,
        }
