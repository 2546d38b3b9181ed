"""`tandem mock`: virtual models alone, on a port."""

import os
import sys
from pathlib import Path

import click
from tandem_api.manifest import ManifestError
from tandem_api.virtual_models import load_models

from tandem_cli.defaults import DEFAULT_HOST, DEFAULT_PORT
from tandem_cli.extras import need
from tandem_cli.failing import Failed
from tandem_cli.keys import door_of, door_options

_EXAMPLES = """\b
Examples:
  tandem mock                            the default models, and those that fail on purpose
  tandem mock --models mine.yaml         with models of your own
  tandem mock --delays 50 500 100 1000   known delays in ms, and GET /seen
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
@click.option(
    "--delays",
    nargs=4,
    type=int,
    metavar="FIRST MOST END MOST",
    help="Serve chat completions after known delays in their stead: least and greatest milliseconds to the first "
    "token, and from the last content to the end. GET /seen tells what was asked.",
)
@door_options
@click.option("--seed", type=int, help="With --delays: draw the same ones each time.")
def command(
    host: str,
    port: int,
    models: Path | None,
    failures: bool,
    delays: tuple[int, int, int, int] | None,
    api_key_file: Path | None,
    allow_no_auth: bool,
    seed: int | None,
) -> None:
    """Serve virtual models alone: fixed answers over OpenAI's and Anthropic's protocols, behind /virtual and in /v1.

    This is a router without workers. It ends with Ctrl-C.
    """
    need("router")
    if delays is not None:
        if models is not None:
            raise click.UsageError("--models and --delays are two different servers: give one")
        if api_key_file is not None:
            raise click.UsageError("the server of --delays asks nobody for a key")
        click.echo(f"Serving at http://{host}:{port}/v1; GET /seen tells what was asked. Ctrl-C ends it.", err=True)
        first, most, end, most_end = map(str, delays)
        program = [sys.executable, "-m", "tandem_router.virtual.delays", "--host", host, "--port", str(port)]
        program += [
            "--first",
            first,
            most,
            "--end",
            end,
            most_end,
            *(["--seed", str(seed)] if seed is not None else []),
        ]
        os.execv(sys.executable, program)  # noqa: S606 - the program is this very Python
    if models is not None:
        try:
            load_models(models)
        except ManifestError as error:
            raise Failed(str(error)) from None
    door = door_of(host, api_key_file, allow_no_auth)
    click.echo(f"Serving at http://{host}:{port}/v1 and /virtual/v1. Ctrl-C ends it.", err=True)
    program = [sys.executable, "-m", "tandem_router", "--virtual-alone", "--virtual-listed"]
    program += ["--host", host, "--port", str(port), "--grace", "2"]
    program += ["--virtual-failures"] if failures else []
    program += door.argv
    program += ["--virtual-models", str(models)] if models is not None else []
    # The router takes this process's place, so that signals and the exit code are its own.
    os.execv(sys.executable, program)  # noqa: S606 - the program is this very Python
