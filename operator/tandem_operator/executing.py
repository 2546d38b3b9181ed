"""Carrying out a plan: each action is one write, and its answer goes into the store before the next plan is made.

What can't be done for good is told apart from what can't be done now, and keeps nothing else from being done.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tandem_operator.cluster import DEPLOYMENT, POD, Cluster, Conflict, Ending, NotFound, Refused, by_name
from tandem_operator.planning.actions import Delete, Gate, Plan, Scale
from tandem_operator.planning.names import ROUTABLE
from tandem_operator.store import Key, Store

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of a plan's actions."""

    refused: list[Refused] = field(default_factory=list)
    """Writes that will be refused again."""
    outdated: bool = False
    """Something was not as the plan had it: it has to be made again."""


class Executor:
    """Writes to one cluster."""

    def __init__(self, cluster: Cluster, store: Store, timestamp: Callable[[], str]) -> None:
        self._cluster = cluster
        self._store = store
        self._timestamp = timestamp

    async def execute(self, key: Key, owner: str, plan: Plan) -> Outcome:
        """Does all of a plan but its status and events.

        Args:
            key: The service.
            owner: Its uid.
            plan: What to do.

        Raises:
            Unavailable: the API server can't do it now; what was done stays.
            Ending: the namespace goes, and the service with it.
        """
        outcome = Outcome()
        namespace = key[0]
        # Gates first: pods that wait for them are all that stands between a service and its readiness.
        for gate in plan.gates:
            await self._attempt(outcome, self._gate(namespace, gate))
        for obj in plan.apply:
            await self._attempt(outcome, self._apply(namespace, owner, dict(obj)))
        for scale in plan.scale:
            await self._attempt(outcome, self._scale(namespace, scale))
        for delete in plan.delete:
            await self._attempt(outcome, self._delete(namespace, delete))
        return outcome

    async def _attempt(self, outcome: Outcome, write: Awaitable[None]) -> None:
        try:
            await write
        except Ending:
            raise
        except Refused as error:
            outcome.refused.append(error)
        except (Conflict, NotFound) as error:
            # Views lag: what was seen is gone or another by now, and an event that says so is on its way.
            _log.info("decides again", extra={"why": str(error)})
            outcome.outdated = True

    async def _apply(self, namespace: str, owner: str, obj: dict[str, Any]) -> None:
        kind, name = by_name(obj["kind"]), obj["metadata"]["name"]
        known = self._store.get(kind.name, namespace, name)
        if known and known.owner and known.owner != owner:
            raise Conflict(f"apply {kind.name} {namespace}/{name}", "the one of a former resource is still there")
        self._store.put(kind.name, await self._cluster.apply(kind, namespace, obj))

    async def _scale(self, namespace: str, scale: Scale) -> None:
        answer = await self._cluster.scale(
            DEPLOYMENT, namespace, scale.deployment, scale.replicas, scale.uid, scale.resource_version
        )
        self._store.scaled(namespace, scale.deployment, answer)

    async def _delete(self, namespace: str, delete: Delete) -> None:
        kind = by_name(delete.kind)
        try:
            await self._cluster.delete(kind, namespace, delete.name, delete.uid, delete.resource_version)
        except NotFound:
            self._store.remove(kind.name, namespace, delete.name, delete.uid)
            return
        self._store.deleted(kind.name, namespace, delete.name, delete.uid)

    async def _gate(self, namespace: str, gate: Gate) -> None:
        now = self._timestamp()
        condition = {
            "type": ROUTABLE,
            "status": "True",
            "reason": "RoutersConnected",
            "message": "every ready router has a session with this worker",
            "lastTransitionTime": now,
        }
        # The uid is a precondition: a pod of the same name that came after it is another one.
        body = {"metadata": {"uid": gate.uid}, "status": {"conditions": [condition]}}
        try:
            self._store.put(POD.name, await self._cluster.patch_status(POD, namespace, gate.pod, body))
        except NotFound:
            self._store.remove(POD.name, namespace, gate.pod, gate.uid)
            raise
