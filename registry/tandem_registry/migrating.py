"""Brings the database's tables to what this release needs. `python -m tandem_registry migrate` does it and ends."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from tandem_registry.database import Database

_LOCK = 7_420_118
"""Of PostgreSQL's advisory locks: two who migrate at once do it one after the other."""


class NotMigrated(Exception):
    """The tables are not those of this release; the text says what to do."""


def migrate(database: Database) -> None:
    """Makes or changes the tables, all or nothing. Where they are right, nothing happens."""
    with database.engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_migrated(database: Database) -> None:
    """Sees that the tables are those of this release.

    Raises:
        NotMigrated: they are older, or there are none.
    """
    known = ScriptDirectory.from_config(_config())
    with database.engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    head = known.get_current_head()
    if present == head:
        return
    revisions = {script.revision for script in known.walk_revisions()}
    if present is None or present in revisions:
        raise NotMigrated(
            f"the database is at revision {present or 'none'}, this release needs {head}: run "
            "`python -m tandem_registry migrate` with the same --database"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
