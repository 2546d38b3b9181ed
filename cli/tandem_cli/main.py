"""The `tandem` command. Each of its commands is imported when it is called, so that none waits for the others."""

import os
from difflib import get_close_matches
from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "up": "Run models on this machine and serve them until Ctrl-C.",
    "demo": "Run a small model on this machine, ask it one question, stop.",
    "mock": "Serve virtual models alone, without GPUs or workers.",
    "chat": "Ask a model one question.",
    "bench": "Measure how fast a server answers: TTFT, ITL, TPOT, goodput.",
    "models": "List the models that a router serves.",
    "status": "Show services, versions and workers as a router sees them.",
    "experiment": "Show an experiment, decide it again, or take it in hand.",
    "registry": "Keep models and their versions, and say which version is active.",
    "keys": "Issue, list and end API keys.",
    "plan": "Show what `up` and the operator will run for a manifest.",
    "validate": "Check manifests.",
    "crd": "Print the CustomResourceDefinition of InferenceService.",
}
"""By name: the line that `tandem --help` shows, so that help imports none of them."""


class Lazy(click.Group):
    """Commands that live in modules of their own, `tandem_cli.commands.NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tandem_cli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click would look for what was meant among the commands that are loaded: none.
        if args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(map(repr, near))}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start here: tandem demo. Then: tandem up, and in another terminal tandem chat 'Why is the sky blue?'",
)
@click.version_option(package_name="tandem-serving", prog_name="tandem", message="%(prog)s %(version)s")
def main() -> None:
    """Serve large language models with prefill and decode on different workers."""
    # gRPC tells of every connection that ends; a failed probe says it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
