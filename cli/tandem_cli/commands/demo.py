"""`tandem demo`: the whole promise in one command."""

import asyncio
import time
from typing import Any

import click

from tandem_cli.account import Account
from tandem_cli.conversation import ask_streaming, first_model
from tandem_cli.failing import Failed
from tandem_cli.options import platform_options, settings_of
from tandem_cli.planning import make_plans
from tandem_cli.platform import Platform
from tandem_cli.router import client_of
from tandem_cli.serving import serve

_INTERRUPTED = 130


@click.command("demo", epilog="Example: tandem demo --question 'Name three rivers of Europe.'")
@click.option("--question", default="What is the capital of France?", show_default=True, help="What to ask.")
@platform_options
def command(question: str, engine: str | None, **given: Any) -> None:
    """Run a small model on this machine, prefill and decode in processes of their own, ask it one question, stop.

    Below the answer stands what it took: how long the prompt was computed, how much KV cache moved to the decode
    worker and how, the first token, the speed. Exits 1 if no KV moved: then it was no disaggregated answer.
    """
    asyncio.run(_demo(question, engine == "virtual", given))


async def _demo(question: str, virtual: bool, given: dict[str, Any]) -> None:
    accounts: list[Account] = []
    plans = make_plans((), virtual=virtual)
    settings = settings_of(**given)

    async def use(platform: Platform) -> None:
        click.echo(f"> {question}")
        async with client_of(platform.url, settings.door.key) as client:
            body = {
                "model": await first_model(client),
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": 256,
            }
            accounts.append(await ask_streaming(client, body, lambda text: click.echo(text, nl=False), time.monotonic))
        click.echo()
        click.echo(accounts[0].line())

    if not await serve(plans, settings, use):
        raise SystemExit(_INTERRUPTED)
    timing = accounts[0].timing
    if not timing.transferred:
        raise Failed(
            f"the prompt's KV did not move from the prefill to the decode worker: {timing.outcome or 'unknown'} "
            f"{timing.reason}".rstrip(),
            "the logs of both workers say why: tandem demo --state-dir DIR keeps them in DIR/logs",
        )
