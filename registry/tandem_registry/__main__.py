"""`python -m tandem_registry`: the registry as a process, and `migrate`, which prepares its database."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from tandem_api.logs import LEVELS
from tandem_api.registry import key_digest

from tandem_registry.access import Keys
from tandem_registry.database import BadUrl, Database, database_url
from tandem_registry.logs import configure

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_database = click.option(
    "--database",
    envvar="TANDEM_REGISTRY_DATABASE",
    required=True,
    metavar="URL",
    callback=lambda _context, _option, given: _read_url(given),
    help="sqlite:////data/registry.db, or postgresql://user:password@host/name. Best by TANDEM_REGISTRY_DATABASE: a "
    "password does not belong on a command line.",
)
_log_level = click.option(
    "--log-level", default="info", type=click.Choice(list(LEVELS)), help="Logs are JSON lines on stderr."
)


def _read_url(given: str) -> Any:
    try:
        return database_url(given)
    except BadUrl as error:
        raise click.BadParameter(str(error)) from error


def _read_key(path: Path | None) -> str | None:
    if path is None:
        return None
    key = path.read_text().strip()
    if len(key) < 16:
        raise click.UsageError(
            f"{path} holds no key: write one of at least 16 characters, such as `openssl rand -hex 32`"
        )
    return key_digest(key)


@click.group(
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "TANDEM_REGISTRY", "show_default": True, "max_content_width": 100},
)
@click.option("--database", metavar="URL", help="Where models, versions, history, keys and outcomes are kept.")
@click.option("--storage", metavar="URL", help="Where artifacts are kept: file:///data/artifacts, s3://bucket/prefix.")
@click.option("--host", default="127.0.0.1", help="Address to listen at.")
@click.option("--port", default=8090, type=click.IntRange(0, 65535), help="Port to listen at; 0: any that is free.")
@click.option(
    "--static-key-file", type=_FILE, help="A key that may do everything, so that the first key can be made with it."
)
@click.option(
    "--service-key-file",
    type=_FILE,
    help="The key of routers, the operator and workers: it reads models and artifacts and the snapshot of keys, marks "
    "versions as used, and keeps outcomes; no more.",
)
@click.option("--allow-no-auth", is_flag=True, help="Let everybody do everything: for a laptop, on loopback only.")
@click.option("--max-file-bytes", default=10 * 10**9, type=click.IntRange(1), help="Larger files get a 413.")
@click.option(
    "--keep-hours",
    default=24.0,
    type=click.FloatRange(0),
    help="How long unfinished uploads and unused files are kept.",
)
@click.option("--sweep-seconds", default=3600.0, type=click.FloatRange(1), help="Between two sweeps of those.")
@click.option("--migrate/--no-migrate", "migrates", default=False, help="Migrate the database before serving.")
@_log_level
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """Serve the model registry and artifact repository: /admin/v1/*, /healthz, /readyz, /metrics, /openapi.json.

    Every option can be given as an environment variable, too: TANDEM_REGISTRY_DATABASE=...
    """
    if context.invoked_subcommand is not None:
        return
    _serve(**given)


def _serve(
    database: str | None,
    storage: str | None,
    static_key_file: Path | None,
    service_key_file: Path | None,
    allow_no_auth: bool,
    keep_hours: float,
    migrates: bool,
    **given: Any,
) -> None:
    if database is None or storage is None:
        raise click.UsageError("--database and --storage say where things are kept: give both")
    if static_key_file is None and not allow_no_auth:
        raise click.UsageError(
            "without --static-key-file nobody could get in. Write a key to a file, or let everybody in with "
            "--allow-no-auth"
        )
    keys = Keys(_read_key(static_key_file), _read_key(service_key_file), required=not allow_no_auth)
    configure(given["log_level"])
    from tandem_registry.migrating import NotMigrated
    from tandem_registry.serving import serve
    from tandem_registry.settings import Settings
    from tandem_registry.storage import BadUrl as BadStorage
    from tandem_registry.storage import open_storage

    url = _read_url(database)
    settings = Settings(database=url, storage=storage, keys=keys, keep=timedelta(hours=keep_hours), **given)
    try:
        serve(settings, open_storage(storage, os.environ), migrates=migrates)
    except BadStorage as error:
        raise click.BadParameter(str(error), param_hint="--storage") from error
    except NotMigrated as error:
        raise click.ClickException(str(error)) from error


@main.command("migrate")
@_database
@_log_level
def migrate_command(database: Any, log_level: str) -> None:
    """Make the database's tables, or bring those of an earlier release up to this one."""
    configure(log_level)
    from tandem_registry.migrating import migrate

    store = Database(database)
    try:
        migrate(store)
    finally:
        store.close()


if __name__ == "__main__":
    main()
