"""`tandem chat`: one question, its answer as it streams."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from tandem_cli.conversation import ask, ask_streaming, first_model
from tandem_cli.keys import key_of, key_option
from tandem_cli.router import client_of, output_option, url_option


@click.command(
    "chat",
    epilog="Examples: tandem chat 'Why is the sky blue?'; git diff | tandem chat --system 'Review this.' -",
)
@click.argument("question")
@url_option
@key_option
@click.option("--model", help="Whom to ask; default: the first that is served.")
@click.option("--system", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Cut the answer off after so many tokens.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0: always the likeliest token.")
@click.option("--seed", type=int, help="The same seed, the same answer.")
@output_option
def command(question: str, url: str, key_file: Path | None, output: str, model: str | None, **given: Any) -> None:
    """Ask a model one QUESTION (- reads it from standard input) and print the answer as it streams.

    Below it stands what the answer took, on stderr: so the answer alone goes through a pipe. `-o json` prints the whole
    response of the API instead, without streaming.
    """
    text = sys.stdin.read() if question == "-" else question
    asyncio.run(_chat(text, url, key_of(key_file), model, given, output == "json"))


async def _chat(question: str, url: str, key: str, model: str | None, given: dict[str, Any], as_json: bool) -> None:
    system = given.pop("system")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    async with client_of(url, key) as client:
        body = {
            "model": model or await first_model(client),
            "messages": messages,
            **{name: value for name, value in given.items() if value is not None},
        }
        if as_json:
            click.echo(json.dumps(await ask(client, body), indent=2))
            return
        account = await ask_streaming(client, body, _write, time.monotonic)
    click.echo()
    click.echo(click.style(account.line(), dim=True), err=True)


def _write(text: str) -> None:
    click.echo(text, nl=False)
