"""A router as a process: uvicorn with direct connections, and an orderly end on SIGTERM.

On the first signal the router is not ready at once. For its lame-duck time it goes on to take requests, because load
balancers hear of that only after a while, and asks its clients to come over another connection next time. Then it takes
no more work, but still listens: who has not heard of it gets a 503 and comes to another replica. A connection whose
answer began before the signal was told nothing, so it may have one request more. When the open requests are over, or
the grace period is, the server closes.
"""

import asyncio
import logging
import time
from types import FrameType

import uvicorn

from tandem_router.app import RouterApp
from tandem_router.discovery import Source
from tandem_router.discovery.file import FileSource
from tandem_router.discovery.nothing import NothingSource
from tandem_router.frontends.direct import DirectProtocol
from tandem_router.router import Router
from tandem_router.settings import Settings
from tandem_router.telemetry.tracing import NoTracer, Tracer

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 5
"""For connections to close after the last request; what is left then is cut."""


class _Server(uvicorn.Server):
    """uvicorn, which leaves to us what a signal means. The exit code of an orderly end is 0."""

    def __init__(self, config: uvicorn.Config, loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._loop = loop
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._stopping.is_set():
            self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self._stopping.set)


def uvicorn_config(app: RouterApp, settings: Settings) -> uvicorn.Config:
    """Uvicorn as this router wants it."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=DirectProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends it at once."""
    router = Router(settings, _source(settings), _tracer(settings.otlp_endpoint), time.monotonic)
    stopping = asyncio.Event()
    server = _Server(uvicorn_config(RouterApp(router), settings), asyncio.get_running_loop(), stopping)
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(_end_orderly(router, server, stopping))
        await server.serve()
        ending.cancel()


def _source(settings: Settings) -> Source:
    """Where the topology comes from.

    Raises:
        NoCluster: Kubernetes it is, and nothing says where.
    """
    if settings.virtual.alone:
        return NothingSource()
    if settings.topology is not None:
        return FileSource(settings.topology)
    # Only routers in a cluster pay for these.
    from tandem_router.discovery.connecting import connector
    from tandem_router.discovery.kubernetes import KubernetesSource

    return KubernetesSource(connector(), settings.namespaces)


def _tracer(endpoint: str) -> Tracer:
    """Exports to `endpoint` (OTLP over gRPC); nothing where that is empty."""
    if not endpoint:
        return NoTracer()
    # Only routers that export pay for it.
    from tandem_router.telemetry.otel import OtlpTracer

    return OtlpTracer.exporting_to(endpoint)


async def _end_orderly(router: Router, server: _Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    await router.leave()
    for connection in list(server.server_state.connections):
        if isinstance(connection, DirectProtocol):
            connection.part()
    await router.drain()
    server.should_exit = True
