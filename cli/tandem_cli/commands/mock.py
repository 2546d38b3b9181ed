"""`tandem mock`: virtual models alone, on a port."""

import os
import sys
from pathlib import Path

import click
from tandem_api.manifest import ManifestError
from tandem_api.virtual_models import load_models

from tandem_cli.defaults import DEFAULT_HOST, DEFAULT_PORT
from tandem_cli.failing import Failed

_EXAMPLES = """\b
Examples:
  tandem mock                            the default models, and those that fail on purpose
  tandem mock --models mine.yaml         with models of your own
  ANTHROPIC_BASE_URL=http://127.0.0.1:8080 claude --model virtual-claude-3
"""


@click.command("mock", epilog=_EXAMPLES)
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen at.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(1, 65535), help="Port to listen at."
)
@click.option(
    "--models",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file with more virtual models.",
)
@click.option("--failures/--no-failures", default=True, show_default=True, help="Models that fail on purpose.")
def command(host: str, port: int, models: Path | None, failures: bool) -> None:
    """Serve virtual models alone: fixed answers over OpenAI's and Anthropic's protocols, behind /virtual and in /v1.

    This is a router without workers. It ends with Ctrl-C.
    """
    if models is not None:
        try:
            load_models(models)
        except ManifestError as error:
            raise Failed(str(error)) from None
    click.echo(f"Serving at http://{host}:{port}/v1 and /virtual/v1. Ctrl-C ends it.", err=True)
    program = [sys.executable, "-m", "tandem_router", "--virtual-alone", "--virtual-listed"]
    program += ["--host", host, "--port", str(port), "--grace", "2"]
    program += ["--virtual-failures"] if failures else []
    program += ["--virtual-models", str(models)] if models is not None else []
    # The router takes this process's place, so that signals and the exit code are its own.
    os.execv(sys.executable, program)  # noqa: S606 - the program is this very Python
