"""The options that `up` and `demo` share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tandem_cli.defaults import DEFAULT_HOST, DEFAULT_PORT
from tandem_cli.keys import door_of, door_options
from tandem_cli.planning import default_cache
from tandem_cli.platform import PlatformSettings, parse_gpus


class _Gpus(click.ParamType[tuple[str, ...]]):
    name = "gpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_gpus(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_FOLDER = click.Path(file_okay=False, path_type=Path, resolve_path=True)

_OPTIONS = (
    click.option(
        "--engine", type=click.Choice(["virtual"]), help="virtual: rehearse on simulated engines, without GPUs or vLLM."
    ),
    click.option(
        "--gpus",
        type=_Gpus(),
        metavar="0,1,...",
        help="This machine's GPUs to deal out to workers, by their nvidia.com/gpu limits.",
    ),
    click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address of the router; 0.0.0.0: all."),
    click.option(
        "--port",
        default=DEFAULT_PORT,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="Port of the router; 0: any that is free.",
    ),
    click.option(
        "--cache",
        type=_FOLDER,
        help="Where fetched models stay; also TANDEM_CACHE. Default: tandem/models in the user's cache folder.",
    ),
    click.option("--state-dir", type=_FOLDER, help="Keep logs, topology and registry there. Default: a temporary one."),
    click.option(
        "--grace",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Seconds that open streams get after Ctrl-C; a second Ctrl-C ends them at once.",
    ),
)


def platform_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all; `settings_of` makes a value of what they were given."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return door_options(command)


def settings_of(
    gpus: tuple[str, ...] | None,
    host: str,
    port: int,
    cache: Path | None,
    state_dir: Path | None,
    grace: float,
    api_key_file: Path | None,
    allow_no_auth: bool,
) -> PlatformSettings:
    """What the options say, with this process's environment.

    Raises:
        click.UsageError: others could reach the router, and nothing says whether they may.
    """
    return PlatformSettings(
        cache=cache or default_cache(os.environ),
        environment=dict(os.environ),
        host=host,
        port=port,
        door=door_of(host, api_key_file, allow_no_auth),
        gpus=gpus,
        state=state_dir,
        grace=grace,
    )
