"""A router as a process: uvicorn with direct connections, and an orderly end on SIGTERM.

On the first signal the router is not ready at once and takes no more work, but still listens: who has not heard of it
gets a 503 and comes to another replica. When the open requests are over, or the grace period is, the server closes.
"""

import asyncio
import logging
import time
from types import FrameType

import uvicorn

from tandem_router.app import RouterApp
from tandem_router.direct import DirectProtocol
from tandem_router.discovery.file import FileSource
from tandem_router.router import Router
from tandem_router.settings import Settings
from tandem_router.tracing import tracer

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
    router = Router(settings, FileSource(settings.topology), tracer(settings.otlp_endpoint), time.monotonic)
    stopping = asyncio.Event()
    server = _Server(uvicorn_config(RouterApp(router), settings), asyncio.get_running_loop(), stopping)
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(_end_orderly(router, server, stopping))
        await server.serve()
        ending.cancel()


async def _end_orderly(router: Router, server: _Server, stopping: asyncio.Event) -> None:
    await stopping.wait()
    await router.drain()
    server.should_exit = True
