"""Watches, by kopf: what changes in the cluster goes into the store, and the services concerned into the queue.

Only indices and event handlers: they write nothing to the objects and need no finalizer. kopf calls the indices with
every object that there is before it calls the first event handler, so no service is looked at before all is known.

kopf does not tell of objects that went while a watch was broken for so long that it had to begin again with a list:
`pruning` finds those.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

import kopf

from tandem_operator.cluster import CHILDREN, POD, SERVICES, ApiError, Cluster, Kind
from tandem_operator.forgetting import NoDiffBase, NoProgress
from tandem_operator.planning.names import SERVICE
from tandem_operator.store import Key, Store

WATCHED: Final[tuple[Kind, ...]] = (SERVICES, POD, *CHILDREN)
PRUNE_SECONDS: Final = 300.0

_log = logging.getLogger(__name__)


def selector(kind: Kind) -> str:
    """The labels of the objects of a kind that are of interest."""
    return "" if kind == SERVICES else SERVICE


def registry(
    store: Store,
    concerned: Callable[[Iterable[Key]], None],
    seen: Callable[[str], None],
    looks_after: Callable[[str], bool],
) -> kopf.OperatorRegistry:
    """The handlers of all that is watched.

    Args:
        store: Where objects go.
        concerned: Told which services have to be looked at.
        seen: Told the kind of each object that was seen to change.
        looks_after: Whether a namespace is of interest.
    """
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login)
    for kind in WATCHED:
        _register(handlers, kind, store, concerned, seen, looks_after)
    return handlers


def settings() -> kopf.OperatorSettings:
    """How kopf is to run."""
    made = kopf.OperatorSettings()
    made.peering.standalone = True
    made.posting.enabled = False
    made.scanning.disabled = True  # kinds and namespaces are known: no rights over the cluster's are needed
    made.process.ultimate_exiting_timeout = 30
    made.persistence.diffbase_storage = NoDiffBase()
    made.persistence.progress_storage = NoProgress()
    made.watching.reconnect_backoff = 0.2
    made.queueing.idle_timeout = 0.5  # each object that changes has a task for so long
    # An API server that starts again refuses requests for a while: the watches outlast it.
    made.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5, 8, 13, 21, 30, 30)
    for kind in WATCHED:
        if wanted := selector(kind):
            made.watching.label_selectors[_key(kind)] = wanted
    return made


async def pruning(
    cluster: Cluster, store: Store, namespaces: Iterable[str], concerned: Callable[[Iterable[Key]], None]
) -> None:
    """Compares the store with the cluster now and then, and forgets what is gone. Runs until it is cancelled."""
    scopes: list[str | None] = [*namespaces] or [None]
    while True:
        await asyncio.sleep(PRUNE_SECONDS)
        for kind in WATCHED:
            for namespace in scopes:
                try:
                    listed = await cluster.list_metadata(kind, namespace, selector(kind))
                except ApiError as error:
                    _log.warning("can't compare with the cluster", extra={"kind": kind.name, "error": str(error)})
                    continue
                concerned(gone(store, kind, namespace, listed))


def gone(store: Store, kind: Kind, namespace: str | None, listed: dict[str, Any]) -> set[Key]:
    """Forgets what a list does not hold, but what is younger than the list. Returns the services concerned."""
    present = {item["metadata"]["uid"] for item in listed["items"]}
    until = int(listed["metadata"]["resourceVersion"])
    found: set[Key] = set()
    for record in store.of_kind(kind.name):
        in_scope = namespace is None or record.namespace == namespace
        if in_scope and record.uid not in present and record.version <= until:
            found |= store.remove(kind.name, record.namespace, record.name, record.uid)
    return found


def _login(**context: Any) -> kopf.ConnectionInfo | None:
    """As `tandem_operator.cluster.connect` finds its credentials."""
    return kopf.login_with_service_account(**context) or kopf.login_with_kubeconfig(**context)


def _key(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural


def _register(
    handlers: kopf.OperatorRegistry,
    kind: Kind,
    store: Store,
    concerned: Callable[[Iterable[Key]], None],
    seen: Callable[[str], None],
    looks_after: Callable[[str], bool],
) -> None:
    def interesting(namespace: str | None, **_: Any) -> bool:
        return namespace is not None and looks_after(namespace)

    # Coroutines, since kopf runs plain functions in threads. This one comes before the event handler.
    @kopf.index(*_key(kind), registry=handlers, id=f"{kind.plural}-stored", when=interesting)
    async def store_it(body: kopf.Body, **_: Any) -> None:
        pending.update(store.put(kind.name, dict(body)))

    @kopf.on.event(*_key(kind), registry=handlers, id=f"{kind.plural}-seen", when=interesting)
    async def see_it(event: kopf.RawEvent, **_: Any) -> None:
        seen(kind.name)
        if event["type"] == "DELETED":
            meta: dict[str, Any] = dict(event["object"]["metadata"])
            pending.update(store.remove(kind.name, meta["namespace"], meta["name"], meta["uid"]))
        concerned(pending)
        pending.clear()

    pending: set[Key] = set()
