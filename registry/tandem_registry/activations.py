"""Which version of a model is active, and the history of it.

A rollback goes back to what was active before, and rolling back again goes further back: each entry of the history
knows the entry that a rollback of it leads to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tandem_api.registry import Activate, Activation, Page, Rollback

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import conflict
from tandem_registry.models import etag, locked, require_version
from tandem_registry.paging import paged
from tandem_registry.preconditions import check_match
from tandem_registry.tables import ActivationRow, ActiveRow, ModelRow, VersionRow


@dataclass(frozen=True, slots=True)
class _Step:
    """An entry to be made."""

    kind: Literal["activate", "rollback"]
    version: str
    before: int | None
    by: str
    reason: str


class Activations:
    """Changes the active version, and tells the history."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def activate(self, model: str, given: Activate, if_match: str | None, caller: Caller) -> Activation:
        """Makes a version the active one. If it is that already, its entry is answered and nothing changes.

        Raises:
            Failure: 404 for the model or the version, 412, 428.
        """
        with self._database.writing() as session:
            row = locked(session, model)
            check_match(if_match, etag(row), f"model {model!r}")
            require_version(session, model, given.version)
            active = session.get(ActiveRow, model)
            if active is not None and active.version == given.version:
                return _shape(session.get_one(ActivationRow, (model, active.activation)))
            before = None if active is None else active.activation
            step = _Step("activate", given.version, before, given.by, given.reason)
            return self._enter(session, row, active, step, caller)

    def rollback(self, model: str, given: Rollback, if_match: str | None, caller: Caller) -> Activation:
        """Makes the version active that was active before the active one.

        Raises:
            Failure: 404, 412, 428; 409 where there was none before, or it has been deleted.
        """
        with self._database.writing() as session:
            row = locked(session, model)
            check_match(if_match, etag(row), f"model {model!r}")
            active = session.get(ActiveRow, model)
            if active is None:
                raise conflict("nothing_active", f"no version of {model!r} is active: activate one")
            current = session.get_one(ActivationRow, (model, active.activation))
            if current.before is None:
                raise conflict(
                    "nothing_before", f"no version of {model!r} was active before {active.version!r}: activate one"
                )
            target = session.get_one(ActivationRow, (model, current.before))
            if session.get(VersionRow, (model, target.version)) is None:
                raise conflict(
                    "former_version_deleted",
                    f"{target.version!r}, active before {active.version!r}, has been deleted: activate another",
                )
            step = _Step("rollback", target.version, target.before, given.by, given.reason)
            return self._enter(session, row, active, step, caller)

    def page(self, model: str, limit: int, cursor: str | None) -> Page[Activation]:
        """A model's history, the latest entry first."""
        with self._database.reading() as session:
            rows = select(ActivationRow).where(ActivationRow.model == model)
            return paged(
                session,
                rows,
                ActivationRow.number,
                limit,
                cursor,
                lambda rows: [_shape(row) for row in rows],
                descending=True,
            )

    def _enter(
        self, session: Session, model: ModelRow, active: ActiveRow | None, step: _Step, caller: Caller
    ) -> Activation:
        last = session.scalar(select(func.max(ActivationRow.number)).where(ActivationRow.model == model.name)) or 0
        entry = ActivationRow(
            model=model.name,
            number=last + 1,
            kind=step.kind,
            version=step.version,
            former=None if active is None else active.version,
            before=step.before,
            at=self._clock(),
            by=step.by or caller.key,
            key=caller.key,
            reason=step.reason,
        )
        session.add(entry)
        session.merge(ActiveRow(model=model.name, version=step.version, activation=entry.number))
        model.generation += 1
        return _shape(entry)


def _shape(row: ActivationRow) -> Activation:
    return Activation.model_validate(
        {
            "number": row.number,
            "kind": row.kind,
            "version": row.version,
            "former": row.former,
            "at": row.at,
            "by": row.by,
            "key": row.key,
            "reason": row.reason,
        }
    )
