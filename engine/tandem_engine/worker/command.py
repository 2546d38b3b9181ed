"""The command line of a worker: the same arguments for both roles."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import uvloop
import yaml
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls

from tandem_engine import tracing
from tandem_engine.engine import Engine
from tandem_engine.factory import build_engine
from tandem_engine.worker.logs import log_as_json
from tandem_engine.worker.running import Orders, run_worker
from tandem_engine.worker.state import Role


def worker_command(role_name: str, role: Role) -> click.Command:
    """The program of a role, whose configuration must be for `role_name`."""

    @click.command(help=f"Runs a {role_name} worker.")
    @click.option("--config", "config_file", required=True, type=_file(), help="WorkerConfig, as JSON or YAML.")
    @click.option("--model-dir", type=_folder(), help="The weights; the virtual engine needs none.")
    @click.option("--name", envvar="POD_NAME", default=role_name, show_default=True, help="This worker's name.")
    @click.option(
        "--host",
        envvar="POD_IP",
        default="127.0.0.1",
        show_default=True,
        help="The address to bind, and to tell others.",
    )
    @click.option("--tls", "tls_dir", type=_folder(), help="tls.crt, tls.key and ca.crt, for mutual TLS.")
    @click.option("--log-level", default="INFO", show_default=True)
    def command(
        config_file: Path, model_dir: Path | None, name: str, host: str, tls_dir: Path | None, log_level: str
    ) -> None:
        config = read_config(config_file, role_name)
        log_as_json(sys.stderr, log_level.upper(), worker=name)
        tls = None if tls_dir is None else Tls(tls_dir)
        attributes = {"tandem.model": config.model, "tandem.version": config.version, "service.instance.id": name}
        with (
            tracing.exporting(f"tandem-{role_name}", os.environ, attributes),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            code = runner.run(
                _main(config, partial(build_engine, config, model_dir, name, host, tls), role, host, name, tls)
            )
        sys.exit(code)

    return command


def read_config(path: Path, role: str) -> WorkerConfig:
    """Reads a worker's configuration.

    Raises:
        click.ClickException: the file is no WorkerConfig, or is one of another role.
    """
    try:
        config = WorkerConfig.model_validate(yaml.safe_load(path.read_bytes()))
    except (ValidationError, yaml.YAMLError) as error:
        raise click.ClickException(f"{path} is not a worker's configuration: {error}") from error
    if config.role != role:
        raise click.ClickException(f"{path} is for a {config.role} worker; this program is a {role} worker")
    return config


async def _main(
    config: WorkerConfig, build: Callable[[], Engine], role: Role, host: str, name: str, tls: Tls | None
) -> int:
    orders = Orders(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        """The first signal drains, the second ends at once, and a third is the system's own."""
        if not orders.stop.is_set():
            orders.stop.set()
        else:
            orders.kill.set()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    return await run_worker(
        config, build, role, host=host, name=name, tls=tls, registry=CollectorRegistry(), orders=orders
    )


def _file() -> click.Path:
    return click.Path(exists=True, dir_okay=False, path_type=Path)


def _folder() -> click.Path:
    return click.Path(exists=True, file_okay=False, path_type=Path)
