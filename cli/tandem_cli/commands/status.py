"""`tandem status`: services, versions and workers, as a router sees them."""

import asyncio
from pathlib import Path

import click
from pydantic import ValidationError
from tandem_api.status import RouterStatus

from tandem_cli.failing import Failed
from tandem_cli.keys import key_of, key_option
from tandem_cli.router import client_of, get_json, output_option, url_option
from tandem_cli.tables import services_table, workers_table


@click.command("status", epilog="Example: watch tandem status --workers")
@url_option
@key_option
@click.option("--workers", is_flag=True, help="A row for each worker: role, load, KV use, leases.")
@output_option
def command(url: str, key_file: Path | None, workers: bool, output: str) -> None:
    """Show services, versions and workers as a router sees them.

    PREFILL and DECODE count ready workers of all; RUNNING and WAITING are calls in the engines; KV USE is that of the
    fullest decode worker; TTFT p95 is of the last minutes. `-o json` has all of it.
    """
    status = asyncio.run(_status(url, key_of(key_file)))
    if output == "json":
        click.echo(status.model_dump_json(by_alias=True, indent=2))
    elif not status.services:
        click.echo("The router serves nothing: start a model with `tandem up -f FILE`.", err=True)
    else:
        click.echo(workers_table(status) if workers else services_table(status))


async def _status(url: str, key: str) -> RouterStatus:
    async with client_of(url, key) as client:
        data = await get_json(client, "/tandem/v1/status")
    try:
        return RouterStatus.model_validate(data)
    except ValidationError:
        raise Failed(f"{url} answers a status of another shape: is it a Tandem router of this release?") from None
