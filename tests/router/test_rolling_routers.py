"""Routers are replaced one after the other under load: no stream is cut, no request refused. Real processes."""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tandem_api.inference_service import RoutingSpec

from tests.loopback import free_host
from tests.router.fake_worker import FakeCall, FakeWorker, words
from tests.router.house import CHAT, STREAM, answers, fake, topology_of, until

PORT = 8080
NOTICE_SECONDS = 0.5
"""How long the Service goes on sending connections to a router that is not ready."""
LAME_DUCK_SECONDS = 5.0


@dataclass
class Router:
    """One router's process."""

    host: str
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"http://{self.host}:{PORT}"


@asynccontextmanager
async def router(folder: Path, lame_duck: float, *argv: str) -> AsyncIterator[Router]:
    host = free_host()
    options = (
        "--allow-no-auth",
        "--topology",
        str(folder / "topology.json"),
        "--host",
        host,
        "--lame-duck",
        str(lame_duck),
        "--log-level",
        "warning",
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tandem_router", *options, *argv)
    try:
        yield Router(host, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass
class Service:
    """What a Service of Kubernetes does: a connection goes to a router that was ready a moment ago, and stays there."""

    routers: list[Router] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    """When a router, by its host, last was ready."""
    _looked: float = 0.0
    """When the last round of probes began: a round that takes long makes no router unready."""
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def chosen(self) -> list[str]:
        since = self._looked - NOTICE_SECONDS
        return [host for host, seen in self.seen.items() if seen > since]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        async with asyncio.TaskGroup() as tasks, server:
            probing = tasks.create_task(self._probe())
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            probing.cancel()

    async def _probe(self) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            while True:
                began = time.monotonic()
                for one in self.routers:
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(f"{one.url}/readyz")).status_code == 200:
                            self.seen[one.host] = time.monotonic()
                self._looked = began
                await asyncio.sleep(0.05)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chosen = self.chosen
        with contextlib.suppress(OSError), contextlib.closing(writer):
            answers, asks = await asyncio.open_connection(chosen[next(self._turn) % len(chosen)], PORT)
            with contextlib.closing(asks):
                asking = asyncio.create_task(_copy(reader, asks))
                await _copy(answers, writer)
                asking.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


LENGTH = 25
EXPECTED = b"".join(words(*(str(n) for n in range(LENGTH)))) + b"data: [DONE]\n\n"


async def paced(call: FakeCall) -> None:
    """Streams of half a second and more, so that many are under way at any time."""
    if b'"stream"' not in call.body:
        body = json.dumps({"choices": []}).encode()
        call.started(content_bytes=len(body))
        call.data(body)
        call.finished()
        return
    call.started()
    for word in words(*(str(n) for n in range(LENGTH))):
        call.data(word)
        await asyncio.sleep(json.loads(call.body).get("pace", 0.02))
    call.data(b"data: [DONE]\n\n")
    call.finished()


async def post(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    """An answer, however it is. Where a connection is closed before any of it, it is asked for again.

    Whoever asks over a connection that was kept may find it closed in that moment: the official clients ask twice more.
    """
    for again in (2, 1, 0):
        began = False
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                began = True
                await answer.aread()
                return answer
        except httpx.TransportError:
            if began or not again:
                raise
    raise AssertionError


async def load(client: httpx.AsyncClient, number: int, over: asyncio.Event, done: list[str]) -> None:
    """Asks again and again, over connections that are kept, and notes what went wrong."""
    # Some streams take longer than a lame duck lives.
    stream = {**STREAM, "pace": 0.2 if number % 5 == 0 else 0.02}
    for turn in itertools.count():
        if over.is_set():
            return
        asked = stream if turn % 3 else CHAT
        try:
            answer = await post(client, asked)
        except httpx.TransportError as error:
            done.append(f"{number}: {error!r}")
            continue
        whole = asked is CHAT or answer.content == EXPECTED
        done.append("" if answer.status_code == 200 and whole else f"{number}: {answer.status_code} {answer.text}")


async def test_routers_replaced_under_load_cut_no_stream_and_refuse_no_request(tmp_path: Path) -> None:
    worker: FakeWorker = fake("decode", "d0", paced, max_running=1000)
    service, over, done = Service(), asyncio.Event(), list[str]()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(worker.serving())
        (tmp_path / "topology.json").write_text(topology_of([worker], RoutingSpec()).model_dump_json())
        for _ in range(3):
            service.routers.append(await stack.enter_async_context(router(tmp_path, LAME_DUCK_SECONDS)))
        url = await stack.enter_async_context(service.serving())
        await until(lambda: len(service.chosen) == 3, 60)
        limits = httpx.Limits(max_keepalive_connections=1000)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60, limits=limits))
        async with asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(load(client, number, over, done))
            for old in list(service.routers):
                coming = await stack.enter_async_context(router(tmp_path, LAME_DUCK_SECONDS))
                service.routers.append(coming)
                await until(lambda one=coming: one.host in service.chosen, 60)
                old.process.terminate()
                async with asyncio.timeout(60):
                    assert await old.process.wait() == 0
                service.routers.remove(old)
            before = len(done)
            await until(lambda: len(done) >= before + 100, 60)
            over.set()
    assert {problem for problem in done if problem} == set()


@pytest.mark.parametrize("lame_duck", [0.0, 1000.0])
async def test_a_lame_duck_is_not_ready_and_takes_requests(tmp_path: Path, lame_duck: float) -> None:
    go_on = asyncio.Event()

    async def held(call: FakeCall) -> None:
        if b'"stream"' in call.body:
            await go_on.wait()
        await paced(call)

    worker = fake("decode", "d0", held)
    async with worker.serving():
        (tmp_path / "topology.json").write_text(topology_of([worker], RoutingSpec()).model_dump_json())
        async with router(tmp_path, lame_duck) as one, httpx.AsyncClient(base_url=one.url, timeout=60) as client:
            await answers(client, "/readyz", 200)
            running = asyncio.create_task(client.post("/v1/chat/completions", json=STREAM))
            await until(lambda: worker.open)
            one.process.terminate()
            await answers(client, "/readyz", 503)
            answer = await client.post("/v1/chat/completions", json=CHAT)
            assert (answer.status_code, answer.headers["connection"]) == (200 if lame_duck else 503, "close")
            assert (await client.get("/tandem/v1/status")).json()["ready"] is False
            go_on.set()
            assert (await running).content == EXPECTED
            if not lame_duck:
                assert await one.process.wait() == 0
