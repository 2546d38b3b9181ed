"""A router on a free loopback port in front of fake workers; in the test's own loop, so that a test sees its counts."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn
from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.access.settings import AccessSettings
from tandem_router.app import RouterApp
from tandem_router.discovery import Source
from tandem_router.discovery.file import FileSource
from tandem_router.router import Router
from tandem_router.serving import uvicorn_config
from tandem_router.settings import Settings
from tandem_router.telemetry.tracing import NoTracer

from tests.router.fake_worker import FakeWorker, Script, decode_well, prefill_well

MODEL = "org/m"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}]}
STREAM = {**CHAT, "stream": True}


async def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Waits until what `holds` asks is true."""
    async with asyncio.timeout(seconds):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


async def answers(client: httpx.AsyncClient, path: str, status: int, seconds: float = 60) -> None:
    """Waits until a GET of `path` is answered, and with this status."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if (await client.get(path)).status_code == status:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def following(source: Source) -> AsyncIterator["asyncio.Queue[Topology]"]:
    """What a source tells, for as long as the block lasts."""
    told: asyncio.Queue[Topology] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(source.follow(told.put_nowait))
        yield told
        task.cancel()


@dataclass
class House:
    """Everything that a test looks at."""

    router: Router
    url: str
    http: httpx.AsyncClient
    prefill: list[FakeWorker]
    decode: list[FakeWorker]
    topology: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def openai(self, **options: Any) -> Any:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="local", max_retries=0, **options)

    async def chat(self, body: dict[str, Any] = CHAT, **options: Any) -> httpx.Response:
        return await self.http.post("/v1/chat/completions", json=body, **options)

    async def until(self, holds: Any, seconds: float = 60) -> None:
        """Waits until what `holds` asks is true."""
        await until(holds, seconds)

    async def workers_ready(self, count: int) -> None:
        await self.until(lambda: sum(w.ready for w in self.router.fleet.workers) == count)

    def write_topology(self, topology: Topology) -> None:
        beside = self.topology.with_suffix(".next")
        beside.write_text(topology.model_dump_json())
        beside.replace(self.topology)

    async def metric(self, name: str) -> float:
        """The value of one sample, with its labels as they stand in the text."""
        text = (await self.http.get("/metrics")).text
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    def what_is_held(self) -> dict[str, Any]:
        """All that calls may hold, where it is not at rest."""
        workers = list(self.router.fleet.workers)
        held: dict[str, Any] = {f"places at {w.name}": w.placed for w in workers}
        held |= {f"leases of {w.name}": w.leases for w in workers}
        held |= {f"open calls to {w.name}": w.link.open_calls for w in workers}
        held |= {f"calls at {w.name}": len(w.open) for w in (*self.prefill, *self.decode)}
        held |= {f"leases at {w.name}": len(w.leases) for w in self.prefill}
        held |= {f"queue of {s.model}": s.room.taken for s in self.router.fleet.services.values()}
        held |= {"open requests": len(self.router.open), "active requests": self.router.measures.active}
        return {what: count for what, count in held.items() if count}

    async def at_rest(self) -> None:
        """Every slot, lease and queue place has been given back."""
        try:
            await self.until(lambda: not self.what_is_held())
        except TimeoutError:
            raise AssertionError(f"still held: {self.what_is_held()}") from None


def topology_of(
    workers: Sequence[FakeWorker], routing: RoutingSpec, versions: Sequence[tuple[str, int]] = (("v1", 100),)
) -> Topology:
    """One service; each version has the workers that say that they are of it."""
    disaggregated = any(worker.role == "prefill" for worker in workers)
    routes = []
    for name, weight in versions:
        mine = tuple(w.endpoint for w in workers if w.identity.version == name)
        revision = RevisionEndpoints(name=f"{name}-r1", disaggregated=disaggregated, workers=mine)
        routes.append(VersionRoutes(name=name, weight=weight, revisions=(revision,)))
    service = ServiceRoutes(
        name="m", namespace="default", model=MODEL, created=7, routing=routing, versions=tuple(routes)
    )
    return Topology(services=(service,))


def fake(role: str, name: str, script: Script | None = None, version: str = "v1", max_running: int = 8) -> FakeWorker:
    identity = pb.Identity(
        name=name,
        role=pb.ROLE_PREFILL if role == "prefill" else pb.ROLE_DECODE,
        service="default/m",
        model=MODEL,
        version=version,
        revision=f"{version}-r1",
    )
    script = script or (prefill_well if role == "prefill" else decode_well)
    return FakeWorker(role, name, script, pb.Limits(max_running=max_running), identity)


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def house(
    folder: Path,
    prefill: Sequence[FakeWorker] = (),
    decode: Sequence[FakeWorker] = (),
    *,
    routing: RoutingSpec | None = None,
    versions: Sequence[tuple[str, int]] = (("v1", 100),),
    dead: Sequence[FakeWorker] = (),
    http: Any = None,
    tracer: Any = None,
    at_start: str | None = None,
    source: Source | None = None,
    **settings: Any,
) -> AsyncIterator[House]:
    """Starts the workers (those in `dead` only get an endpoint) and a router; ends with everything at rest.

    `at_start` stands in the topology file in the place of a topology. `source` takes the file's place.
    """
    async with AsyncExitStack() as stack:
        for worker in (*prefill, *decode, *dead):
            await stack.enter_async_context(worker.serving())
        for worker in dead:
            await worker.die()
        topology = folder / "topology.json"
        workers = (*prefill, *decode, *dead)
        known = topology_of(workers, routing or RoutingSpec(), versions).model_dump_json()
        topology.write_text(known if at_start is None else at_start)
        open_to_all = AccessSettings(required=False)
        told = replace(Settings(topology=topology, host="127.0.0.1", port=0, access=open_to_all), **settings)
        router = Router(told, source or FileSource(topology), tracer or NoTracer(), time.monotonic)
        config = uvicorn_config(RouterApp(router), told)
        config.http = http or config.http
        server = _Server(config)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        serving = tasks.create_task(server.serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        here = House(router, url, client, list(prefill), list(decode), topology)
        try:
            await here.workers_ready(len(prefill) + len(decode) if at_start is None and source is None else 0)
            yield here
            await here.at_rest()
        finally:
            await client.aclose()
            server.should_exit = True
            await serving


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]
