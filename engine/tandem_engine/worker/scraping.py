"""The metrics port: Prometheus text over HTTP, from a thread of its own, so that a scrape holds up no stream."""

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app
from prometheus_client.metrics_core import Metric

from tandem_engine.worker.metrics import Sample, counter, gauge, info
from tandem_engine.worker.state import WorkerState

POLL_SECONDS = 0.05
"""Between two looks of the server's thread at whether it should end."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class _Ipv6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A scrape is no news."""


@asynccontextmanager
async def metrics_server(host: str, port: int, state: WorkerState) -> AsyncIterator[int]:
    """Serves while entered; yields the port.

    Raises:
        OSError: the address can't be bound.
    """
    sample = Sample(lambda: families(state))
    registry = state.metrics.registry
    registry.register(sample)
    try:
        server = make_server(host, port, make_wsgi_app(registry), _Ipv6 if ":" in host else ThreadingWSGIServer, _Quiet)
    except OSError as error:
        raise OSError(f"the metrics port {host}:{port} can't be bound: {error.strerror}") from error
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
        registry.unregister(sample)


def families(state: WorkerState) -> Iterator[Metric]:
    """What is read at a scrape. It runs in another thread and only reads."""
    load, fetches, totals = state.snapshot.load, state.snapshot.fetches, state.snapshot.totals
    tally = state.tally
    who = state.identity
    yield info({"role": state.config.role, "service": who.service, "model": who.model, "version": who.version})
    yield gauge("ready", "1 while the engine can answer and calls are taken.", load.ready)
    yield gauge("draining", "1 while no more calls are taken.", load.draining)
    yield gauge("sessions", "Routers that hold a session.", len(state.sessions))
    yield gauge("open_calls", "Calls that have a place here.", load.open_calls)
    yield gauge("running_calls", "Calls that the engine computes.", load.running)
    yield gauge("waiting_calls", "Calls that wait in the engine.", load.waiting)
    yield gauge("kv_blocks", "Blocks of the KV cache.", load.total_blocks)
    yield gauge("kv_free_blocks", "Blocks of the KV cache that no call holds.", load.free_blocks)
    yield gauge("kv_leases", "Prompts whose KV is held for decode workers.", load.leases)
    yield gauge("kv_staged_bytes", "KV bytes held for decode workers.", load.staged_bytes)
    yield gauge("kv_fetches", "KV transfers under way, in either direction.", fetches)
    yield counter("frames_total", "Frames sent to routers.", tally.frames)
    yield counter("events_total", "Events of calls in those frames.", tally.events)
    yield counter("data_bytes_total", "Bytes of answers in those frames.", tally.bytes)
    if drafted := totals.get("draft_tokens", 0):
        # Requirements 9.1, whose names stay as they are (16.1).
        rate = totals.get("draft_tokens_accepted", 0) / drafted
        yield gauge("speculative_acceptance_rate", "Accepted share of the tokens speculated.", rate, prefix="")
    for name, value in totals.items():
        if _NAME.fullmatch(name):
            text = "The engine's own count."
            yield counter(name if name.endswith("_total") else f"{name}_total", text, value, "tandem_engine_")
