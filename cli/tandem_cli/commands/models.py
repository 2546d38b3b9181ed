"""`tandem models`: what can be asked."""

import asyncio
import json

import click

from tandem_cli.router import client_of, get_json, output_option, url_option


@click.command("models", epilog="Example: tandem models -o json | jq -r '.data[].id'")
@url_option
@output_option
def command(url: str, output: str) -> None:
    """List the models that a router serves, as its clients name them."""
    models = asyncio.run(_models(url))
    if output == "json":
        click.echo(json.dumps(models, indent=2))
        return
    for model in models.get("data", []):
        click.echo(model["id"])
    if not models.get("data"):
        click.echo("No models are served: start one with `tandem up -f FILE`.", err=True)


async def _models(url: str) -> dict[str, list[dict[str, str]]]:
    async with client_of(url) as client:
        models: dict[str, list[dict[str, str]]] = await get_json(client, "/v1/models")
        return models
