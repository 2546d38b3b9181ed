"""Outcomes of experiments. The first one that is said stays: saying it again is well, saying another is an error."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from tandem_api.registry import NewOutcome, Outcome, Page

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import conflict, not_found
from tandem_registry.paging import paged
from tandem_registry.tables import OutcomeRow


class Outcomes:
    """Reads and writes outcomes."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def put(self, id: str, given: NewOutcome, caller: Caller) -> tuple[Outcome, bool]:
        """Keeps an outcome; tells whether it is the first for this experiment.

        Raises:
            Failure: 409 where another one is kept.
        """
        try:
            with self._database.writing() as session:
                session.add(
                    OutcomeRow(
                        id=id,
                        outcome=given.outcome,
                        evidence=given.evidence,
                        decided_at=given.decided_at,
                        recorded_at=self._clock(),
                        recorded_by=caller.key,
                    )
                )
            return self.get(id), True
        except IntegrityError:
            kept = self.get(id)
        if kept.outcome != given.outcome:
            raise conflict(
                "outcome_decided",
                f"experiment {id!r} was decided on {kept.decided_at:%Y-%m-%d %H:%M} UTC: {kept.outcome}, not "
                f"{given.outcome}",
                "outcome",
            )
        return kept, False

    def get(self, id: str) -> Outcome:
        """The outcome of an experiment.

        Raises:
            Failure: 404, it has none.
        """
        with self._database.reading() as session:
            row = session.get(OutcomeRow, id)
            if row is None:
                raise not_found(f"outcome of experiment {id!r}")
            return _shape(row)

    def page(self, limit: int, cursor: str | None) -> Page[Outcome]:
        """Outcomes by experiment."""
        with self._database.reading() as session:
            return paged(
                session, select(OutcomeRow), OutcomeRow.id, limit, cursor, lambda rows: [_shape(row) for row in rows]
            )


def _shape(row: OutcomeRow) -> Outcome:
    return Outcome(
        id=row.id,
        outcome=row.outcome,
        evidence=row.evidence,
        decided_at=row.decided_at,
        recorded_at=row.recorded_at,
        recorded_by=row.recorded_by,
    )
