"""A server with OpenAI's API that does what a test tells it to, and an engine in front of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from aiohttp import web
from tandem_api.inference_service.upstream import UpstreamEndpoint, UpstreamRetries, UpstreamSpec
from tandem_engine.engine import Call
from tandem_engine.upstream import UpstreamEngine
from tandem_proto.tandem.v1 import worker_pb2 as pb

Handler = Callable[[web.Request], Any]


@dataclass
class Server:
    """What it was asked, and what it answers: one handler for each request in turn, the last one for all further."""

    url: str = ""
    handlers: list[Handler] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    probes: int = 0
    probe: Handler | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/models"):
            self.probes += 1
            if self.probe is not None:
                return await self.probe(request)
            return web.json_response({"data": [{"id": "theirs"}]})
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.json())
        handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
        return await handler(request)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late is not down."""
    monkeypatch.setattr("tandem_engine.upstream.endpoints.PROBE_SECONDS", 60.0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as one:
        yield one


@pytest.fixture
async def second() -> AsyncIterator[Server]:
    async with running() as one:
        yield one


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    serving = Server(handlers=[whole()])
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serving.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield serving
    finally:
        await runner.cleanup()


def answering(status: int, body: Any, **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    return handle


def whole(message: dict[str, Any] | None = None, **more: Any) -> Handler:
    choice = {"index": 0, "message": message or {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    return answering(
        200,
        {"id": "theirs-1", "object": "chat.completion", "model": "theirs", "choices": [choice], "usage": usage, **more},
    )


def streaming(*events: Any, abrupt: bool = False) -> Handler:
    """Events, JSON or bytes; `abrupt` cuts the connection after them."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            data = event if isinstance(event, bytes) else json.dumps(event).encode()
            await response.write(b"data: " + data + b"\n\n")
        if abrupt:
            await asyncio.sleep(0.05)  # what was written is to arrive before the cut
            assert request.transport is not None
            request.transport.abort()
        return response

    return handle


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "theirs-1", "object": "chat.completion.chunk", "model": "theirs", "choices": choices, **more}


@dataclass
class Heard:
    """A `Reply` that keeps what it is told."""

    status: int = 0
    content_type: str = ""
    pieces: list[bytes] = field(default_factory=list)

    def started(self, status: int, content_type: str, content_bytes: int, kv: pb.KvReport) -> None:
        assert not self.status
        self.status, self.content_type = status, content_type

    def data(self, chunk: bytes) -> None:
        assert self.status
        self.pieces.append(chunk)

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(b"".join(self.pieces))
        return read

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = b"".join(self.pieces).split(b"\n\n")
        return [json.loads(line[6:]) for line in lines if line and line != b"data: [DONE]"]


@dataclass
class Slept:
    """Sleeps that are over at once, but for the probes'."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        if seconds >= 60:
            await asyncio.Event().wait()
        self.seconds.append(seconds)


def endpoint(server: Server, label: str = "a", **more: Any) -> UpstreamEndpoint:
    return UpstreamEndpoint(label=label, **{"url": server.url, "model": "theirs", **more})


@asynccontextmanager
async def engine_of(
    *endpoints: UpstreamEndpoint, slept: Slept | None = None, environment: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[UpstreamEngine]:
    retries = more.pop("retries", UpstreamRetries(attempts=3))
    spec = UpstreamSpec(endpoints=endpoints, retries=retries, probe_interval=3600, **more)
    engine = UpstreamEngine(
        spec, "ours", max_tokens=100, environment=environment or {}, sleep=slept or Slept(), random=Random(1)
    )
    async with engine:
        yield engine
        assert (engine.load().running, engine.load().waiting) == (0, 0)


def call(api: "pb.Api.ValueType" = pb.API_CHAT_COMPLETIONS, **body: Any) -> Call:
    given = {
        "model": "ours",
        **({"messages": [{"role": "user", "content": "Hi"}]} if api == pb.API_CHAT_COMPLETIONS else {}),
    }
    return Call("chatcmpl-ours", api, json.dumps({**given, **body}).encode())
