"""`tandem plan`: the pods behind a manifest."""

from pathlib import Path

import click
import yaml
from tandem_operator.planning import plan_services, rehearse

from tandem_cli.manifests import files_option, load_files


@click.command("plan", epilog="Example: tandem plan -f llama.yaml --engine virtual -o json | jq '.[].kind'")
@files_option(required=True)
@click.option("--engine", type=click.Choice(["virtual"]), help="virtual: as a rehearsal without GPUs.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="Default: yaml.")
def command(files: tuple[Path, ...], engine: str | None, output: str) -> None:
    """Show what will run for a manifest: the ConfigMap and the pod template of each role of each version.

    `tandem up` runs these pod templates as processes, the operator makes Deployments of them.
    """
    services = load_files(files)
    planned = plan_services([rehearse(service) for service in services] if engine else services)
    objects: list[object] = []
    for service in planned:
        for revision in service.revisions:
            for role in revision.roles:
                objects.append(role.config_map)
                metadata = {
                    "name": role.name,
                    "namespace": service.service.metadata.namespace,
                    "annotations": {"tandem.dev/replicas": str(role.replicas)},
                }
                template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata}
                objects.append({**template, "template": role.pod_template})
    if output == "json":
        import json

        click.echo(json.dumps(objects, indent=2))
    else:
        click.echo(yaml.safe_dump_all(objects, sort_keys=False), nl=False)
