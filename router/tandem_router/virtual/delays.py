"""`python -m tandem_router.virtual.delays`: a server whose delays are known, and which tells what it was asked.

Whoever measures, meters or relays can be tried out on it from end to end (requirements, sections 3 and 5): what was
measured is compared with what the server was told to do, what was sent with what it saw.
"""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import click
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tandem_api.openai.answers import JSON_TYPE
from tandem_api.openai.errors import error_body
from tandem_virtual.delaying import MODEL, PATHS, DelayProvider, DelaySpec

from tandem_router.frontends.clients import Receive, Scope, Send
from tandem_router.virtual.carrying import carry_out, until_gone

SEEN: Final = "/seen"


@dataclass
class Seen:
    """What a server was asked since the start, or since it was told to forget."""

    calls: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """By kind of endpoint: chat, responses, anthropic, unknown."""
    paths: Counter[str] = field(default_factory=Counter)
    last: dict[str, Any] | None = None
    """Method, path, headers without keys, and body of the last request."""

    def add(self, request: Request, body: bytes) -> None:
        """One more."""
        self.calls += 1
        self.kinds[_kind(request.url.path)] += 1
        self.paths[request.url.path] += 1
        headers = {name: value for name, value in request.headers.items() if name not in ("authorization", "x-api-key")}
        self.last = {"method": request.method, "path": request.url.path, "headers": headers, "body": _readable(body)}


class DelayServer(Starlette):
    """The ASGI application.

    Args:
        spec: how slowly it answers.
        model: what it lists; it answers for any.
        now: Unix seconds.
        key: a token for each answer's id.
    """

    def __init__(
        self,
        spec: DelaySpec,
        model: str = MODEL,
        now: Callable[[], float] = time.time,
        key: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.seen = Seen()
        self._provider = DelayProvider(spec)
        self._model = model
        self._now = now
        self._key = key
        self._answered = 0
        super().__init__(
            routes=[
                *(Route(path, _Chat(self), methods=["POST"]) for path in PATHS),
                Route("/v1/models", self._models),
                Route(SEEN, self._tell),
                Route(SEEN, self._forget, methods=["DELETE"]),
                Route("/{path:path}", self._unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def chat(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a chat completion, as slowly as was drawn for it."""
        body = await request.body()
        self.seen.add(request, body)
        random = self._provider.random(self._answered)
        self._answered += 1
        outcome = self._provider.answer(body, random, self._key(), int(self._now()))
        await until_gone(lambda: carry_out(outcome, scope, send), receive)

    async def _models(self, request: Request) -> Response:
        entry = {"id": self._model, "object": "model", "created": 0, "owned_by": "tandem"}
        return JSONResponse({"object": "list", "data": [entry]})

    async def _tell(self, request: Request) -> Response:
        seen = self.seen
        return JSONResponse({"calls": seen.calls, "kinds": seen.kinds, "paths": seen.paths, "last": seen.last})

    async def _forget(self, request: Request) -> Response:
        self.seen = Seen()
        return Response(status_code=204)

    async def _unknown(self, request: Request) -> Response:
        self.seen.add(request, await request.body())
        text = f"there is no {request.method} {request.url.path}: this server has POST {PATHS[0]} and GET {SEEN}"
        return Response(error_body(text, code="not_found"), 404, media_type=JSON_TYPE)


class _Chat:
    """An ASGI endpoint, so that it can cut connections and hear of clients that go."""

    def __init__(self, server: DelayServer) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server.chat(Request(scope, receive), scope, receive, send)


def _kind(path: str) -> str:
    ends = {"/chat/completions": "chat", "/responses": "responses", "/messages": "anthropic"}
    return next((kind for end, kind in ends.items() if path.endswith(end)), "unknown")


def _readable(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8080, type=click.IntRange(0, 65535))
@click.option("--first", nargs=2, type=int, default=(50, 500), help="Milliseconds to the first event: least, greatest.")
@click.option("--end", nargs=2, type=int, default=(100, 1000), help="Milliseconds from the last content to the end.")
@click.option("--seed", type=int, help="Draw the same delays each time.")
def main(host: str, port: int, first: tuple[int, int], end: tuple[int, int], seed: int | None) -> None:
    """Serve chat completions after known delays, and tell at GET /seen what was asked."""
    spec = DelaySpec(
        min_first_token_ms=first[0], max_first_token_ms=first[1], min_end_ms=end[0], max_end_ms=end[1], seed=seed
    )
    config = uvicorn.Config(
        DelayServer(spec), host=host, port=port, ws="none", access_log=False, log_level="warning", server_header=False
    )
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
