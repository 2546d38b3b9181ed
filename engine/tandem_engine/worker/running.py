"""The life of a worker: ports, engine, drain, in this order and back.

Probes are answered first, for an engine's start may take minutes; sessions are accepted meanwhile and told that the
worker is not ready. Draining takes no more calls; those that run go on, and KV is served until its leases are gone,
for `grace_seconds` at most.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry
from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls, listen
from tandem_proto.protocol import CHANNEL_OPTIONS, MAX_MESSAGE_BYTES

from tandem_engine.engine import Engine
from tandem_engine.errors import Unavailable
from tandem_engine.worker.announcing import announce
from tandem_engine.worker.health import health_server
from tandem_engine.worker.metrics import WorkerMetrics
from tandem_engine.worker.scraping import metrics_server
from tandem_engine.worker.servicer import WorkerServicer
from tandem_engine.worker.state import Role, WorkerState
from tandem_engine.worker.watching import watch

POLL_SECONDS = 0.1
"""Between two looks at whether a draining worker is done."""
COUNT_SECONDS = 2.0
"""How long the engine may take to count for such a look."""
CLOSE_SECONDS = 2.0
"""How long the gRPC server waits for its last calls, once all sessions are closed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BoundPorts:
    """The ports that were bound, where the configuration may say 0."""

    grpc: int
    health: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker may be told from outside: to drain and end, and to end at once."""

    stop: asyncio.Event
    kill: asyncio.Event


class _Failed(Exception):
    """The worker can't run, or has to end at once; the text is for the log."""


async def run_worker(
    config: WorkerConfig,
    build: Callable[[], Engine],
    role: Role,
    *,
    host: str,
    name: str,
    tls: Tls | None,
    registry: CollectorRegistry,
    orders: Orders,
    clock: Callable[[], float] = time.monotonic,
    bound: Callable[[BoundPorts], None] = lambda _: None,
) -> int:
    """Runs a worker until it is ordered to end; returns the process's exit code.

    `build` makes the engine, in a thread: importing one may take long, and probes are answered meanwhile. `bound` is
    told the ports once all of them are open.
    """
    state = WorkerState(config, role, name, WorkerMetrics(registry), clock)
    code = 0
    try:
        async with (
            health_server(address(host, config.ports.health)) as health,
            metrics_server(host, config.ports.metrics, state) as metrics_port,
            _protocol_server(address(host, config.ports.grpc), state, tls) as grpc_port,
            asyncio.TaskGroup() as group,
        ):
            ports = BoundPorts(grpc_port, health.port, metrics_port)
            log.info("listening", extra={"host": host, **dataclasses.asdict(ports)})
            bound(ports)
            living = group.create_task(_live(state, build, orders.stop))
            others = [
                group.create_task(announce(state, health)),
                group.create_task(_killed(orders.kill)),
                group.create_task(_stopped(state, orders.stop, living)),
            ]
            await asyncio.wait({living})
            for task in others:
                task.cancel()
    except* _Failed as failed:
        error = failed.exceptions[0]
        log.error("%s", error, exc_info=error.__cause__)
        code = 1
    except* (OSError, RuntimeError) as failed:
        log.error("the worker can't run: %s", failed.exceptions[0])
        code = 1
    except* Exception as failed:
        log.exception("a defect ends the worker", exc_info=failed.exceptions[0])
        code = 1
    log.info("ended", extra={"code": code})
    return code


def address(host: str, port: int) -> str:
    """host:port, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _killed(kill: asyncio.Event) -> None:
    await kill.wait()
    raise _Failed("ended at once, as ordered")


async def _stopped(state: WorkerState, stop: asyncio.Event, living: asyncio.Task[None]) -> None:
    await stop.wait()
    log.info("draining", extra={"open_calls": state.open_calls, "grace_seconds": state.config.grace_seconds})
    state.drain()
    if state.facts is None:
        living.cancel()  # the engine starts: there is nothing to wait for


async def _live(state: WorkerState, build: Callable[[], Engine], stop: asyncio.Event) -> None:
    """The engine's whole life, in one task: an engine has to be left by the task that entered it."""
    since = state.clock()
    try:
        engine = await asyncio.to_thread(build)
        await engine.__aenter__()
    except Exception as error:
        raise _Failed(f"the engine did not start: {error}") from error
    try:
        log.info("the engine has started", extra={"engine": engine.facts.name, "seconds": state.clock() - since})
        state.engine_started(engine)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch(state))
            await stop.wait()
            await _drained(state)
            await _close_sessions(state)
            watching.cancel()
    finally:
        await engine.__aexit__(None, None, None)


async def _drained(state: WorkerState) -> None:
    """Returns when nothing is left to do or to hold, or when the grace is over."""
    end = state.clock() + state.config.grace_seconds
    while True:
        counters = state.last_count()
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                counters = await state.engine.counters()
        except (TimeoutError, Unavailable):
            pass  # the last known count has to do
        left = {"open_calls": state.open_calls, "leases": counters.leases, "fetches": counters.fetches}
        if not any(left.values()):
            return
        if state.clock() >= end:
            log.warning("the grace is over with work left", extra=left)
            return
        await asyncio.sleep(min(POLL_SECONDS, end - state.clock()))


async def _close_sessions(state: WorkerState) -> None:
    async with asyncio.TaskGroup() as group:
        for session in list(state.sessions):
            session.stop_calls(Unavailable("This worker is shutting down."))
            group.create_task(session.close())


@asynccontextmanager
async def _protocol_server(at: str, state: WorkerState, tls: Tls | None) -> AsyncIterator[int]:
    """Serves the worker protocol while entered; yields the port."""
    server = grpc.aio.server(
        options=[
            *CHANNEL_OPTIONS,
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),  # a second worker on the port is an error, not a lottery
        ]
    )
    server.add_generic_rpc_handlers((WorkerServicer(state).handler(),))
    if state.config.reflection:
        reflection.enable_server_reflection((state.role.service, reflection.SERVICE_NAME), server)
    port = listen(server, at, tls)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None if state.sessions else CLOSE_SECONDS)
