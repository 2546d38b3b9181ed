"""Branches of a hub's models, resolved against a real HTTP server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from tandem_operator.cluster import Kind, NotFound, Refused
from tandem_operator.planning.actions import Resolve
from tandem_operator.planning.observed import Resolution
from tandem_operator.sources import KEPT_SECONDS, SourceResolver

SHA = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "hf://org/model@dev"


class _Hub:
    """Knows one model, for whoever shows the token (if it wants one)."""

    def __init__(self, token: str = "") -> None:
        self.asked = 0
        self._token = token

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        allowed = not self._token or request.headers.get("Authorization") == f"Bearer {self._token}"
        if not allowed or request.path != "/api/models/org/model/revision/dev":
            return web.Response(status=404)
        return web.json_response({"id": "org/model", "sha": SHA})


class _Secrets:
    """The part of the API server that resolving asks."""

    def __init__(self, secrets: Mapping[str, Mapping[str, str]] | None) -> None:
        self._secrets = secrets

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        if self._secrets is None:
            raise Refused("get Secret", "forbidden", status=403)
        if name not in self._secrets:
            raise NotFound("get Secret", "not found", status=404)
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in self._secrets[name].items()}}


@asynccontextmanager
async def _resolver(
    hub: _Hub, secrets: _Secrets, clock: list[float]
) -> AsyncIterator[tuple[SourceResolver, asyncio.Event]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", hub.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    answered = asyncio.Event()
    async with httpx.AsyncClient(timeout=None) as http:
        resolver = SourceResolver(
            secrets, http, f"http://127.0.0.1:{port}/", lambda _: answered.set(), lambda: clock[0]
        )
        task = asyncio.create_task(resolver.run())
        try:
            yield resolver, answered
        finally:
            task.cancel()
            await runner.cleanup()


async def _resolved(hub: _Hub, wanted: Resolve, secrets: Mapping[str, Mapping[str, str]] | None = None) -> Resolution:
    async with asyncio.timeout(60), _resolver(hub, _Secrets(secrets), [0.0]) as (resolver, answered):
        resolver.resolve(("ns", "one"), wanted)
        await answered.wait()
        assert resolver.known("elsewhere") == {}
        return resolver.known("ns")[wanted.source]


async def test_a_branch_becomes_a_commit() -> None:
    assert await _resolved(_Hub(), Resolve(SOURCE)) == Resolution(resolved=f"hf://org/model@{SHA}")


async def test_the_token_of_the_secret_is_shown() -> None:
    answer = await _resolved(_Hub("s3cret"), Resolve(SOURCE, "hub"), {"hub": {"HF_TOKEN": "s3cret\n"}})
    assert answer.resolved == f"hf://org/model@{SHA}"


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        (None, "may not read the Secret hub"),
        ({}, "Secret hub is not there"),
        ({"hub": {"TOKEN": "x"}}, "no usable HF_TOKEN"),
    ],
)
async def test_a_token_that_is_not_there_is_said(secrets: Mapping[str, Mapping[str, str]] | None, says: str) -> None:
    answer = await _resolved(_Hub("s3cret"), Resolve(SOURCE, "hub"), secrets)
    assert answer.resolved is None
    assert "404" in answer.error
    assert says in answer.error
    assert "s3cret" not in json.dumps(answer.error)


async def test_a_hub_that_does_not_answer_is_named() -> None:
    async with httpx.AsyncClient(timeout=None) as http, asyncio.timeout(60):
        answered = asyncio.Event()
        resolver = SourceResolver(_Secrets({}), http, "http://127.0.0.1:9", lambda _: answered.set(), lambda: 0.0)
        task = asyncio.create_task(resolver.run())
        resolver.resolve(("ns", "one"), Resolve(SOURCE))
        await answered.wait()
        task.cancel()
    assert "http://127.0.0.1:9 does not answer" in resolver.known("ns")[SOURCE].error


async def test_what_is_asked_at_the_same_time_is_asked_once_and_later_again() -> None:
    hub, clock = _Hub(), [0.0]
    async with asyncio.timeout(60), _resolver(hub, _Secrets({}), clock) as (resolver, answered):
        resolver.resolve(("ns", "one"), Resolve(SOURCE))
        resolver.resolve(("ns", "two"), Resolve(SOURCE))
        await answered.wait()
        assert hub.asked == 1
        clock[0] += KEPT_SECONDS + 1
        assert resolver.known("ns") == {}
        answered.clear()
        resolver.resolve(("ns", "one"), Resolve(SOURCE))
        await answered.wait()
        assert hub.asked == 2
