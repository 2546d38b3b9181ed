"""A router as its clients see it: where it is, and requests whose failures say what to do next."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import click
import httpx

from tandem_cli.defaults import DEFAULT_URL
from tandem_cli.failing import Failed
from tandem_cli.keys import bearer

url_option = click.option(
    "--url",
    envvar="TANDEM_URL",
    default=DEFAULT_URL,
    show_default=True,
    help="The router, also by TANDEM_URL.",
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="json: for scripts."
)

_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 600.0
_KEY_HINT: Final = "show one: --key-file FILE, or TANDEM_API_KEY"


@asynccontextmanager
async def client_of(url: str, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client for one router; what keeps it from being reached ends the command with a text that helps.

    Raises:
        Failed: the router can't be reached, or does not answer in time.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise Failed(f"{url!r} is no URL of a router", "give one such as http://127.0.0.1:8080")
    # The base URL that OpenAI's clients take is good, too.
    base = url.rstrip("/").removesuffix("/v1")
    timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
    try:
        async with httpx.AsyncClient(base_url=base, headers=bearer(key), timeout=timeout) as client:
            yield client
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Failed(
            f"no router at {url}", "start one with `tandem up`, or say where yours is: --url, TANDEM_URL"
        ) from None
    except httpx.TimeoutException:
        raise Failed(
            f"the router at {url} does not answer", "see its logs; `tandem status` shows its workers"
        ) from None
    except httpx.TransportError as error:
        raise Failed(f"the connection to {url} broke: {error}", "see the router's logs, then try again") from None


async def get_json(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The JSON object that a path answers.

    Raises:
        Failed: with the error that the router gave.
    """
    return json_of(await client.get(path))


async def served_models(client: httpx.AsyncClient) -> list[str]:
    """The names that clients use.

    Raises:
        Failed: with the error that the router gave.
    """
    models = (await get_json(client, "/v1/models")).get("data", [])
    return [str(model["id"]) for model in models]


def json_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of a response that has been read.

    Raises:
        Failed: with the error that the router gave.
    """
    if not answer.is_success:
        raise refusal(answer.status_code, answer.content, str(answer.url))
    try:
        data = answer.json()
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise Failed(f"{answer.url} answers with something else than a JSON object", "is it a Tandem router?")
    return data


def refusal(status: int, body: bytes, url: str) -> Failed:
    """An error response as the end of a command."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError):
        return Failed(f"{url} answered with status {status}", "is it a Tandem router? See its logs")
    hints = {
        "missing_api_key": _KEY_HINT,
        "invalid_api_key": _KEY_HINT,
        "insufficient_scope": "use a key with that scope, or have one issued: `tandem keys create`",
        "rate_limit_exceeded": "the limit is your key's, or your address's: wait a moment",
        "model_not_found": "`tandem models` lists what is served",
        "overloaded": "try again in a moment; `tandem status` shows what is waiting",
        "unavailable": "`tandem status --workers` shows which workers are missing",
    }
    return Failed(message, hints.get(code or "", ""))
