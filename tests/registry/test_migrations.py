"""Migrations make what the code expects, and a registry does not start on anything else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, inspect
from tandem_registry.database import BadUrl, Database, database_url
from tandem_registry.migrating import NotMigrated, check_migrated, migrate
from tandem_registry.tables import Base


def test_the_tables_are_those_of_the_code(database: URL) -> None:
    store = Database(database)
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    store.close()


def test_migrating_again_changes_nothing(database: URL) -> None:
    store = Database(database)
    migrate(store)
    check_migrated(store)
    store.close()


def test_a_database_without_tables_is_refused_with_what_to_do(empty_database: URL) -> None:
    store = Database(empty_database)
    with pytest.raises(NotMigrated, match="tandem_registry migrate"):
        check_migrated(store)
    store.close()


def test_two_may_migrate_at_once(empty_database: URL) -> None:
    barrier = threading.Barrier(2)

    def run(_: int) -> None:
        store = Database(empty_database)
        barrier.wait(30)
        try:
            migrate(store)
        finally:
            store.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    store = Database(empty_database)
    check_migrated(store)
    assert "versions" in inspect(store.engine).get_table_names()
    store.close()


def test_the_file_of_sqlite_is_its_owners_alone(tmp_path: Path) -> None:
    store = Database(database_url(f"sqlite:///{tmp_path}/deep/er/registry.db"))
    migrate(store)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "deep/er").iterdir()} == {0o600}
    store.close()


@pytest.mark.parametrize(
    "url", ["", "mysql://u:hush@h/d", "sqlite://", "sqlite:///:memory:", "no url", "postgresql+asyncpg://h/d"]
)
def test_a_url_of_another_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadUrl, match="must be sqlite") as caught:
        database_url(url)
    assert "hush" not in str(caught.value)
