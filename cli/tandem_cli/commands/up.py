"""`tandem up`: a manifest as processes of this machine."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tandem_cli.defaults import DEFAULT_URL
from tandem_cli.manifests import files_option
from tandem_cli.options import platform_options, settings_of
from tandem_cli.planning import make_plans
from tandem_cli.platform import Platform, registry_installed
from tandem_cli.serving import serve
from tandem_cli.watching import tell_troubles

_EXAMPLES = """\b
Examples:
  tandem up                                    a 135M model on this machine's CPU
  tandem up -f llama.yaml --engine virtual     a production manifest, rehearsed without GPUs
  tandem up -f llama.yaml --gpus 0,1,2,3       the same for real
  tandem up -f a.yaml -f b.yaml --port 9000    several models behind one router
"""


@click.command("up", epilog=_EXAMPLES)
@files_option(required=False, default="SmolLM2-135M-Instruct")
@platform_options
def command(files: tuple[Path, ...], engine: str | None, **given: Any) -> None:
    """Run models on this machine, each worker a process, behind one router, and serve them until Ctrl-C.

    It is the plan that the operator carries out on a cluster, from the same manifests. Fetched models are kept for the
    next time. Exits 0 after Ctrl-C, 1 when something can't start.
    """
    asyncio.run(_up(files, engine == "virtual", given))


async def _up(files: tuple[Path, ...], virtual: bool, given: dict[str, Any]) -> None:
    plans = make_plans(files, virtual=virtual)
    settings = replace(settings_of(**given), registry=registry_installed())
    await serve(plans, settings, _until_asked)


async def _until_asked(platform: Platform) -> None:
    where = "" if platform.url == DEFAULT_URL else f"--url {platform.url} "
    click.echo(f'Ctrl-C ends it. Ask with: tandem chat {where}"Why is the sky blue?"', err=True)
    await tell_troubles(platform)
