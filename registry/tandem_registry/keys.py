"""The key store: hashes of API keys, and what their owners may do.

A raw key leaves this module once, in the answer that issues it. Routers fetch a snapshot and check keys by themselves;
its version grows with every change, in the same transaction.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from tandem_api.registry import IssuedKey, Key, KeySnapshot, NewKey, Page, SnapshotKey, key_digest

from tandem_registry.access import Caller
from tandem_registry.database import Database
from tandem_registry.failures import conflict, invalid, not_found
from tandem_registry.paging import paged
from tandem_registry.tables import CounterRow, KeyRow

PREFIX: Final = "tandem_"
"""Of raw keys, so that people and secret scanners know them."""
_COUNTER: Final = "keys"


class KeyStore:
    """Reads and writes keys."""

    def __init__(self, database: Database, clock: Callable[[], datetime], secret: Callable[[], str]) -> None:
        """`secret` gives 64 random hexadecimal digits."""
        self._database = database
        self._clock = clock
        self._secret = secret

    def create(self, given: NewKey, caller: Caller) -> IssuedKey:
        """Issues a key.

        Raises:
            Failure: 409 where the id is taken, by a revoked key too; 400 where it would have expired already.
        """
        now = self._clock()
        if given.expires_at is not None and given.expires_at <= now:
            raise invalid("expires_at: must lie in the future", "expires_at")
        raw = PREFIX + self._secret()
        with self._database.writing() as session:
            self._count(session)
            if session.get(KeyRow, given.id) is not None:
                raise conflict("already_exists", f"there is or was a key {given.id!r}: choose another id", "id")
            row = KeyRow(
                id=given.id,
                sha256=key_digest(raw),
                scopes=sorted(set(given.scopes)),
                description=given.description,
                limits=given.limits.model_dump(),
                created_at=now,
                created_by=caller.key,
                expires_at=given.expires_at,
            )
            session.add(row)
            session.flush()
            return IssuedKey(**_fields(row), key=raw)

    def rotate(self, id: str) -> IssuedKey:
        """Issues another key under the same id and scopes; the former one ends at once.

        Raises:
            Failure: 404; 409 for one that is revoked.
        """
        raw = PREFIX + self._secret()
        with self._database.writing() as session:
            self._count(session)
            row = _required(session, id)
            if row.revoked_at is not None:
                raise conflict("key_revoked", f"key {id!r} is revoked: create another under another id")
            row.sha256 = key_digest(raw)
            row.rotated_at = self._clock()
            return IssuedKey(**_fields(row), key=raw)

    def revoke(self, id: str) -> Key:
        """Ends a key for good. Saying it again changes nothing.

        Raises:
            Failure: 404.
        """
        with self._database.writing() as session:
            self._count(session)
            row = _required(session, id)
            row.revoked_at = row.revoked_at or self._clock()
            return Key(**_fields(row))

    def expire(self, id: str, at: datetime | None) -> Key:
        """Lets a key end at a time, or never.

        Raises:
            Failure: 404; 409 for one that is revoked.
        """
        with self._database.writing() as session:
            self._count(session)
            row = _required(session, id)
            if row.revoked_at is not None:
                raise conflict("key_revoked", f"key {id!r} is revoked already")
            row.expires_at = at
            return Key(**_fields(row))

    def get(self, id: str) -> Key:
        """A key.

        Raises:
            Failure: 404.
        """
        with self._database.reading() as session:
            return Key(**_fields(_required(session, id)))

    def page(self, limit: int, cursor: str | None, *, revoked: bool) -> Page[Key]:
        """Keys by id, `revoked` ones too or not."""
        with self._database.reading() as session:
            rows = select(KeyRow) if revoked else select(KeyRow).where(KeyRow.revoked_at.is_(None))
            return paged(session, rows, KeyRow.id, limit, cursor, lambda rows: [Key(**_fields(row)) for row in rows])

    def version(self) -> int:
        """Of the snapshot."""
        with self._database.reading() as session:
            return session.get_one(CounterRow, _COUNTER).value

    def snapshot(self) -> KeySnapshot:
        """What routers need, of one moment."""
        with self._database.reading() as session:
            version = session.get_one(CounterRow, _COUNTER).value
            valid = KeyRow.revoked_at.is_(None), or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > self._clock())
            rows = session.scalars(select(KeyRow).where(*valid).order_by(KeyRow.id))
            keys = tuple(
                SnapshotKey.model_validate(
                    {
                        "id": row.id,
                        "sha256": row.sha256,
                        "scopes": row.scopes,
                        "expires_at": row.expires_at,
                        "limits": row.limits,
                    }
                )
                for row in rows
            )
            return KeySnapshot(version=version, keys=keys)

    def _count(self, session: Session) -> None:
        session.get_one(CounterRow, _COUNTER, with_for_update=True).value += 1


def _required(session: Session, id: str) -> KeyRow:
    row = session.get(KeyRow, id)
    if row is None:
        raise not_found(f"key {id!r}", "GET /admin/v1/keys lists those that are")
    return row


def _fields(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "scopes": row.scopes,
        "description": row.description,
        "limits": row.limits,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "rotated_at": row.rotated_at,
        "revoked_at": row.revoked_at,
    }
