"""One question to a model through the OpenAI API, its answer as it streams."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx

from tandem_cli.account import Account, Timing
from tandem_cli.failing import Failed
from tandem_cli.router import json_of, refusal, served_models

PATH = "/v1/chat/completions"


async def first_model(client: httpx.AsyncClient) -> str:
    """The model to ask where none is named.

    Raises:
        Failed: nothing is served.
    """
    models = await served_models(client)
    if not models:
        raise Failed(f"{client.base_url} serves no model", "start one with `tandem up -f FILE`")
    return models[0]


async def ask(client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
    """The whole response, as JSON.

    Raises:
        Failed: the router refused, or the answer failed.
    """
    return json_of(await client.post(PATH, json=body))


async def ask_streaming(
    client: httpx.AsyncClient, body: Mapping[str, Any], write: Callable[[str], None], clock: Callable[[], float]
) -> Account:
    """Streams an answer's text into `write` as it comes, and returns what it took.

    Args:
        client: of the router.
        body: of the request, without `stream`.
        write: takes pieces of text.
        clock: seconds, monotone.

    Raises:
        Failed: the router refused, or the stream broke off.
    """
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    sent = clock()
    first = last = None
    pieces = tokens = 0
    async with client.stream("POST", PATH, json=streamed) as answer:
        if not answer.is_success:
            raise refusal(answer.status_code, await answer.aread(), str(answer.url))
        timing = Timing.parse(answer.headers.get("server-timing", ""))
        async for chunk in _chunks(answer):
            if "error" in chunk:
                raise Failed(f"the answer broke off: {chunk['error'].get('message', chunk['error'])}")
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
            for choice in chunk.get("choices", ()):
                if text := choice.get("delta", {}).get("content"):
                    last = clock()
                    first = last if first is None else first
                    pieces += 1
                    write(text)
    first = clock() if first is None else first
    return Account(timing, first - sent, (first if last is None else last) - first, tokens or pieces)


async def _chunks(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each event.

    Raises:
        Failed: the stream ends without `[DONE]`.
    """
    async for line in answer.aiter_lines():
        if line == "data: [DONE]":
            return
        if line.startswith("data: "):
            yield _chunk(line.removeprefix("data: "))
    raise Failed("the answer broke off before its end", "see the router's logs; `tandem status` shows its workers")


def _chunk(text: str) -> dict[str, Any]:
    try:
        chunk = json.loads(text)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict):
        raise Failed(f"the answer is not as the API says: {text[:80]!r}", "is it a Tandem router?")
    return chunk
