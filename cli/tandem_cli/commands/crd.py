"""`tandem crd`: the CustomResourceDefinition, from the types."""

import click
from tandem_api.crd import crd, to_yaml


@click.command("crd", epilog="Example: tandem crd | kubectl apply --server-side -f -")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="Default: yaml.")
def command(output: str) -> None:
    """Print the CustomResourceDefinition of InferenceService: every field, what it means and what it may hold."""
    if output == "json":
        import json

        click.echo(json.dumps(crd(), indent=2))
    else:
        click.echo(to_yaml(), nl=False)
