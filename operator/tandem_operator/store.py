"""What is known of the cluster: the last state of each object, from watches and from answers to the operator's writes.

An object never goes back to a former state, whichever of both tells of it last. So a plan always builds on what the
operator itself wrote before. API servers count versions upwards over all objects of a kind, and promise that they can
be compared (Kubernetes' KEP 5504; etcd's revisions have always been so).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from tandem_operator.planning.observed import Deployment
from tandem_operator.views import Json, ServiceView, View, owner_of, same, service_label, view_of

DELETIONS: Final = 4096
"""Whose end is waited for. A watch that was broken, or quicker than the answer to the deletion, does not tell of it."""

Key = tuple[str, str]
"""Namespace and name of an InferenceService."""


@dataclass(frozen=True, slots=True)
class Record:
    """An object's last known state."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    owner: str
    """The uid of its controller."""
    service: Key
    view: View


class Store:
    """Objects by kind, namespace and name, and by the service that they belong to."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str, str], Record] = {}
        self._of_service: dict[Key, dict[tuple[str, str], Record]] = {}
        self._claims: dict[str, set[Key]] = {}
        self._deleted: dict[str, None] = {}

    def put(self, kind: str, obj: Json) -> set[Key]:
        """Takes an object's state. Returns the services that have to be looked at because of it."""
        meta = obj["metadata"]
        namespace, name, uid = meta["namespace"], meta["name"], meta["uid"]
        known = self._records.get((kind, namespace, name))
        service = service_label(kind, obj)
        view = view_of(kind, obj) if service else None
        if view is None:  # its labels were taken away
            return self.remove(kind, namespace, name, known.uid) if known else set()
        record = Record(
            kind, namespace, name, uid, int(meta["resourceVersion"]), owner_of(obj), (namespace, service), view
        )
        if uid in self._deleted or (known and known.uid == uid and known.version >= record.version):
            return set()
        concerned: set[Key] = set()
        if known and known.service != record.service:
            concerned |= self.remove(kind, namespace, name, known.uid)
        self._set(record)
        if known is None or known.uid != uid or not same(known.view, view):
            concerned |= self._concerned(record, known)
        return concerned

    def remove(self, kind: str, namespace: str, name: str, uid: str) -> set[Key]:
        """Forgets an object that is gone. Returns the services that have to be looked at because of it."""
        self._deleted.pop(uid, None)
        known = self._records.get((kind, namespace, name))
        if known is None or known.uid != uid:
            return set()
        del self._records[kind, namespace, name]
        mine = self._of_service[known.service]
        del mine[kind, name]
        if not mine:
            del self._of_service[known.service]
        if isinstance(known.view, ServiceView):
            self._unclaim(known.view.model, known.service)
        return self._concerned(known, None)

    def deleted(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """The operator had an object deleted: former states of it, still on their way, are not taken."""
        self.remove(kind, namespace, name, uid)
        self._deleted[uid] = None
        if len(self._deleted) > DELETIONS:
            del self._deleted[next(iter(self._deleted))]

    def scaled(self, namespace: str, name: str, scale: Json) -> None:
        """Takes over what a write of a Deployment's scale has answered."""
        known = self._records.get(("Deployment", namespace, name))
        meta, version = scale["metadata"], scale["metadata"]["resourceVersion"]
        if known and isinstance(known.view, Deployment) and known.uid == meta["uid"] and known.version < int(version):
            replicas = scale["spec"].get("replicas", 0)
            view = replace(known.view, replicas=replicas, resource_version=version)
            self._set(replace(known, version=int(version), view=view))

    def get(self, kind: str, namespace: str, name: str) -> Record | None:
        return self._records.get((kind, namespace, name))

    def service(self, key: Key) -> ServiceView | None:
        """The resource itself."""
        record = self._records.get(("InferenceService", *key))
        return record.view if record and isinstance(record.view, ServiceView) else None

    def services(self) -> list[Key]:
        """Of all resources."""
        return [(namespace, name) for kind, namespace, name in self._records if kind == "InferenceService"]

    def of(self, key: Key) -> Iterator[Record]:
        """All that belongs to a service, the resource itself included."""
        yield from self._of_service.get(key, {}).values()

    def of_kind(self, kind: str) -> list[Record]:
        return [record for record in self._records.values() if record.kind == kind]

    def claimants(self, model: str) -> list[tuple[Key, ServiceView]]:
        """The services that want to be called so."""
        views = ((key, self.service(key)) for key in self._claims.get(model, ()))
        return [(key, view) for key, view in views if view is not None]

    def _set(self, record: Record) -> None:
        known = self._records.get((record.kind, record.namespace, record.name))
        self._records[record.kind, record.namespace, record.name] = record
        self._of_service.setdefault(record.service, {})[record.kind, record.name] = record
        if isinstance(record.view, ServiceView):
            if known and isinstance(known.view, ServiceView) and known.view.model != record.view.model:
                self._unclaim(known.view.model, record.service)
            self._claims.setdefault(record.view.model, set()).add(record.service)

    def _unclaim(self, model: str, key: Key) -> None:
        claims = self._claims.get(model, set())
        claims.discard(key)
        if not claims:
            self._claims.pop(model, None)

    def _concerned(self, record: Record, before: Record | None) -> set[Key]:
        """Its service; and those that share its model's name, where a claim to it comes or goes."""
        concerned = {record.service}
        if isinstance(record.view, ServiceView):
            models = {record.view.model}
            if before and isinstance(before.view, ServiceView):
                if before.uid == record.uid and before.view.model == record.view.model:
                    return concerned
                models.add(before.view.model)
            concerned |= {key for model in models for key, _ in self.claimants(model)}
        return concerned
