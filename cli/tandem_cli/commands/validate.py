"""`tandem validate`: what an API server would say of a manifest, without one."""

from pathlib import Path

import click

from tandem_cli.manifests import files_option, load_files


@click.command(
    "validate",
    epilog="Example: tandem validate -f llama.yaml -f smollm2.yaml",
)
@files_option(required=True)
def command(files: tuple[Path, ...]) -> None:
    """Check manifests: every problem with its line, its path and what would be right.

    Exits 0 when all are well, 1 when one is not.
    """
    for service in load_files(files):
        roles = [
            f"{role} {settings.replicas if settings.replicas is not None else 1}"
            for role in ("prefill", "decode")
            if (settings := service.spec.role(role)) is not None
        ]
        versions = ", ".join(version.name for version in service.spec.versions)
        click.echo(f"{service.key}: model {service.model}, versions {versions}, {', '.join(roles)}: ok")
