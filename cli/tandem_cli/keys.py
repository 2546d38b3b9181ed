"""API keys on this command line: the one that a command shows, and those that a router of this machine asks for.

A key is given by a file or by the environment, never as an argument: everybody on a machine can read those.
"""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tandem_cli.failing import Failed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

key_option = click.option(
    "--key-file",
    type=_FILE,
    envvar="TANDEM_API_KEY_FILE",
    help="A file with an API key; or TANDEM_API_KEY holds the key.",
)


def key_of(key_file: Path | None) -> str:
    """The key that a command shows: the file's, else TANDEM_API_KEY's; empty: none.

    Raises:
        Failed: the file can't be read.
    """
    if key_file is None:
        return os.environ.get("TANDEM_API_KEY", "").strip()
    try:
        return key_file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise Failed(
            f"{key_file} can't be read as a key", "it holds nothing but the key, as `keys create` shows it"
        ) from None


def bearer(key: str) -> dict[str, str]:
    """Headers that show a key; none where it is empty."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may use a router that this command line starts."""

    key_file: Path | None = None
    """With the key that may do everything; None: everybody may."""

    @property
    def argv(self) -> tuple[str, ...]:
        """For the router."""
        return ("--allow-no-auth",) if self.key_file is None else ("--api-key-file", str(self.key_file))

    @property
    def key(self) -> str:
        """To show to the router; empty where it asks for none."""
        return "" if self.key_file is None else key_of(self.key_file)


def door_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--api-key-file and --allow-no-auth; `door_of` makes a value of them."""
    for option in (
        click.option(
            "--allow-no-auth", is_flag=True, help="Ask nobody for a key. On loopback that is so without being said."
        ),
        click.option(
            "--api-key-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
            help="A file with the key that clients have to show.",
        ),
    ):
        command = option(command)
    return command


def door_of(host: str, api_key_file: Path | None, allow_no_auth: bool) -> Door:
    """What the options say for a router at `host`; where everybody may use it, stderr says so.

    Raises:
        click.UsageError: others could reach it, and nothing says whether they may.
    """
    if api_key_file is not None:
        if allow_no_auth:
            raise click.UsageError("--api-key-file asks for a key and --allow-no-auth for none: give one")
        return Door(api_key_file)
    if not on_loopback(host) and not allow_no_auth:
        raise click.UsageError(
            f"--host {host} can be reached from other machines: say which key they need with --api-key-file FILE "
            "(openssl rand -hex 32 > FILE), or let everybody in with --allow-no-auth"
        )
    click.echo(f"No API key is asked for: whoever reaches {host} may do everything.", err=True)
    return Door()


def on_loopback(host: str) -> bool:
    """Only programs of this machine reach this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
