"""The database: transactions on SQLite or PostgreSQL, by URL.

The drivers block, and so does SQLAlchemy as it is used here: requests run in the server's thread pool. That is the
simplest thing that holds for both databases, and enough for an API that people, routers and the operator poll: SQLite
has no other kind of driver, and async ones would add a second way to every place that touches a file or an object.

A transaction is short: never open while bytes of an upload move.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

WAIT_SECONDS = 10
"""For a lock, a connection of the pool, a statement."""
_CONNECTIONS = 10


class BadUrl(ValueError):
    """The URL names no database that is known; the text says which are."""


def database_url(text: str) -> URL:
    """Reads `sqlite:////path/registry.db`, or `postgresql://user:password@host/name`.

    Raises:
        BadUrl: it is neither.
    """
    # The text is not repeated: a password may stand in it.
    must = "must be sqlite:////absolute/path.db or postgresql://user:password@host:5432/name"
    try:
        url = make_url(text)
    except ArgumentError:
        raise BadUrl(must) from None
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    raise BadUrl(must)


class Database:
    """Gives out transactions."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
        self._writing = self.engine.execution_options(writes=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads, of one moment's state. Nobody waits for it, and it waits for nobody."""
        with Session(self.engine) as session:
            if self.engine.dialect.name == "postgresql":
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block, and undone where that raises."""
        with Session(self._writing) as session, session.begin():
            yield session

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hashes of keys are in it: for its owner alone. SQLite gives its other files the same mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(
        url, pool_size=_CONNECTIONS, pool_timeout=WAIT_SECONDS, connect_args={"timeout": WAIT_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # `begun` begins transactions, not the driver.
        connection.execute("PRAGMA journal_mode=WAL")  # Readers and a writer do not wait for each other.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # Whoever will write takes the lock at once: taken later, it could not be waited for.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    milliseconds = WAIT_SECONDS * 1000
    return create_engine(
        url,
        pool_size=_CONNECTIONS,
        pool_timeout=WAIT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": WAIT_SECONDS,
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} -c timezone=utc",
            "keepalives_idle": 30,
            "tcp_user_timeout": 2 * milliseconds,
        },
    )
