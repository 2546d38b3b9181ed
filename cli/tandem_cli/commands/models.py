"""`tandem models`: what can be asked."""

import asyncio
import json
from pathlib import Path

import click

from tandem_cli.keys import key_of, key_option
from tandem_cli.router import client_of, get_json, output_option, served_models, url_option


@click.command("models", epilog="Example: tandem models -o json | jq -r '.data[].id'")
@url_option
@key_option
@output_option
def command(url: str, key_file: Path | None, output: str) -> None:
    """List the models that a router serves, as its clients name them."""
    asyncio.run(_models(url, key_of(key_file), as_json=output == "json"))


async def _models(url: str, key: str, *, as_json: bool) -> None:
    async with client_of(url, key) as client:
        if as_json:
            click.echo(json.dumps(await get_json(client, "/v1/models"), indent=2))
            return
        models = await served_models(client)
    for model in models:
        click.echo(model)
    if not models:
        click.echo("No models are served: start one with `tandem up -f FILE`.", err=True)
