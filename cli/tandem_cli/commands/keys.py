"""`tandem keys`: who may use the platform."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import AwareDatetime, BaseModel, ValidationError
from tandem_api.registry import IssuedKey, Key, KeyLimits, NewKey, Scope

from tandem_cli.registry import KEYS, registry_at, registry_options
from tandem_cli.registry_tables import keys_table, moment

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Span(click.ParamType[timedelta]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", value)
        if match is None:
            self.fail(f"{value!r}: must be a number and m, h, d or w, such as 30d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


@click.group("keys", epilog="Example: tandem keys create team-a --scope inference --expires-in 90d > team-a.key")
def command() -> None:
    """Issue, list and end API keys.

    The registry keeps hashes only: a key is shown once, when it is issued. Routers know of every change within seconds.
    Scopes: admin includes all others, inference includes read_only.
    """


@command.command("create")
@click.argument("id")
@click.option(
    "--scope", "scopes", multiple=True, required=True, type=click.Choice(get_args(Scope)), help="Any number of times."
)
@click.option("--expires-in", type=_Span(), metavar="30d", help="It ends after this time. Default: never.")
@click.option("--requests-per-minute", type=click.IntRange(1), help="Default: what the router's settings say.")
@click.option("--tokens-per-minute", type=click.IntRange(1), help="Default: what the router's settings say.")
@click.option("--description", default="", help="For people.")
@registry_options
def create_command(
    id: str,
    scopes: tuple[Scope, ...],
    expires_in: timedelta | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    description: str,
    url: str,
    key_file: Path | None,
    output: str,
) -> None:
    """Issue the key ID. It goes to stdout, and can't be shown again."""
    try:
        given = NewKey(
            id=id,
            scopes=scopes,
            description=description,
            expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
            limits=KeyLimits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute),
        )
    except ValidationError as error:
        raise click.UsageError(f"ID {id!r} {error.errors()[0]['msg']}") from None
    with registry_at(url, key_file) as registry:
        _show(registry.send(IssuedKey, "POST", KEYS, given), output)


@command.command("rotate")
@click.argument("id")
@registry_options
def rotate_command(id: str, url: str, key_file: Path | None, output: str) -> None:
    """Issue another key under the same ID and scopes; the former one ends within seconds."""
    with registry_at(url, key_file) as registry:
        _show(registry.send(IssuedKey, "POST", f"{KEYS}/{id}/rotate"), output)


@command.command("list")
@click.option("--revoked", is_flag=True, help="Revoked keys, too.")
@registry_options
def list_command(revoked: bool, url: str, key_file: Path | None, output: str) -> None:
    """List keys, but not the keys themselves."""
    with registry_at(url, key_file) as registry:
        keys = list(registry.all(Key, KEYS, revoked=str(revoked).lower()))
    if output == "json":
        click.echo(f"[{', '.join(key.model_dump_json() for key in keys)}]")
    else:
        click.echo(keys_table(keys) if keys else "No keys: `tandem keys create ID --scope inference` issues one.")


@command.command("revoke")
@click.argument("id")
@registry_options
def revoke_command(id: str, url: str, key_file: Path | None, output: str) -> None:
    """End a key for good; routers refuse it within seconds."""
    with registry_at(url, key_file) as registry:
        key = registry.send(Key, "DELETE", f"{KEYS}/{id}")
    click.echo(key.model_dump_json(indent=2) if output == "json" else f"{id} is revoked")


class _Expiry(BaseModel):
    expires_at: AwareDatetime | None


@command.command("expire")
@click.argument("id")
@click.option("--in", "span", type=_Span(), metavar="30d", help="It ends after this time.")
@click.option("--never", is_flag=True, help="It does not end by itself.")
@registry_options
def expire_command(id: str, span: timedelta | None, never: bool, url: str, key_file: Path | None, output: str) -> None:
    """Say when a key ends."""
    if never is (span is not None):
        raise click.UsageError("give either --in or --never")
    at = None if span is None else datetime.now(UTC) + span
    with registry_at(url, key_file) as registry:
        answer = registry.client.put(f"{KEYS}/{id}/expiry", json=_Expiry(expires_at=at).model_dump(mode="json"))
        key = registry.read(Key, answer)
    text = f"{id} ends {moment(key.expires_at)}" if key.expires_at else f"{id} does not end by itself"
    click.echo(key.model_dump_json(indent=2) if output == "json" else text)


def _show(key: IssuedKey, output: str) -> None:
    """The key alone on stdout, for a file or a pipe; what to know of it beside."""
    if output == "json":
        click.echo(key.model_dump_json(indent=2))
        return
    click.echo(key.key)
    ends = f", ends {moment(key.expires_at)}" if key.expires_at else ""
    click.echo(f"{key.id}: {', '.join(key.scopes)}{ends}. Keep it: it can't be shown again.", err=True)
