"""The operator's process: what is made of what, and in which order it ends."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import httpx
import kopf
import prometheus_client

from tandem_operator import watching
from tandem_operator.cluster import SERVICES, ApiError, Cluster, connect
from tandem_operator.executing import Executor
from tandem_operator.following import ANSWER_SECONDS as REGISTRY_SECONDS
from tandem_operator.following import Following
from tandem_operator.installed import installation_of
from tandem_operator.metrics import Metrics
from tandem_operator.outcomes import Outcomes
from tandem_operator.planning.names import SERVICE
from tandem_operator.planning.plan import plan
from tandem_operator.queueing import KeyedQueue
from tandem_operator.reconciling import Reconciler
from tandem_operator.reporting import Events, StatusWriter
from tandem_operator.routers import RouterPoller
from tandem_operator.settings import OperatorSettings
from tandem_operator.sources import ANSWER_SECONDS as HUB_SECONDS
from tandem_operator.sources import SourceResolver
from tandem_operator.store import Key, Store
from tandem_operator.working import Workers

FINISH_SECONDS: Final = 10.0
"""That looks which have begun have to end, after SIGTERM."""
AWAIT_SERVED_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


async def run(
    settings: OperatorSettings, *, instance: str, hub: str, clock: Callable[[], float], timestamp: Callable[[], str]
) -> None:
    """Runs until SIGTERM or SIGINT.

    Args:
        settings: The installation's.
        instance: This process's name, in events.
        hub: Base URL of the model hub.
        clock: Unix seconds.
        timestamp: The same as RFC 3339.
    """
    metrics, store, queue = Metrics(), Store(), KeyedQueue[Key]()

    def concerned(keys: Iterable[Key] | None) -> None:
        for key in store.services() if keys is None else keys:
            queue.add(key)
        metrics.queue.set(len(queue))

    async with (
        connect(time.monotonic, metrics.request) as cluster,
        httpx.AsyncClient(headers=settings.router.headers(), trust_env=False) as to_routers,
        httpx.AsyncClient(trust_env=False, timeout=REGISTRY_SECONDS) as to_registry,
        httpx.AsyncClient(timeout=HUB_SECONDS) as to_hub,
    ):
        routers = RouterPoller(cluster, to_routers, settings.router, metrics, concerned, clock)
        outcomes = Outcomes(to_registry, settings.registry, queue.add)
        following = Following(to_registry, settings.registry, queue.add, time.monotonic)
        sources = SourceResolver(cluster, to_hub, hub, queue.add, time.monotonic)
        reconciler = Reconciler(
            store,
            functools.partial(plan, installation=installation_of(settings)),
            Executor(cluster, store, timestamp),
            StatusWriter(cluster, store),
            Events(cluster, timestamp, instance),
            routers,
            sources,
            following,
            outcomes,
            metrics,
            clock=clock,
            timestamp=timestamp,
        )
        workers = Workers(queue, reconciler, metrics)
        with _served(metrics, settings.metrics_port):
            async with asyncio.TaskGroup() as group:
                working = group.create_task(workers.run(settings.workers))
                helping = [
                    group.create_task(routers.run()),
                    group.create_task(sources.run()),
                    group.create_task(following.run()),
                    group.create_task(outcomes.run()),
                    group.create_task(watching.pruning(cluster, store, settings.namespaces, concerned)),
                ]
                await _until_served(cluster, settings)
                await _watch(settings, store, queue, concerned, metrics)  # until a signal comes
                queue.close()
                await asyncio.wait([working], timeout=FINISH_SECONDS)
                for task in (working, *helping):
                    task.cancel()


async def _watch(
    settings: OperatorSettings,
    store: Store,
    queue: KeyedQueue[Key],
    concerned: Callable[[Iterable[Key] | None], None],
    metrics: Metrics,
) -> None:
    def seen(kind: str) -> None:
        queue.open()  # the first event comes after all lists
        metrics.events.labels(kind).inc()

    handlers = watching.registry(store, concerned, seen, settings.looks_after)
    _log.info("started", extra={"namespaces": list(settings.namespaces) or "all"})
    await kopf.operator(
        registry=handlers,
        settings=watching.settings(),
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None,
    )


async def _until_served(cluster: Cluster, settings: OperatorSettings) -> None:
    """Waits for the CustomResourceDefinition, which may come after the operator."""
    scope = settings.namespaces[0] if settings.namespaces else None
    while True:
        try:
            # None carries that label: the answer is short, however many there are.
            await cluster.list_metadata(SERVICES, scope, SERVICE)
            return
        except ApiError as error:
            _log.warning("waits for the InferenceService API", extra={"why": str(error)})
        await asyncio.sleep(AWAIT_SERVED_SECONDS)


@contextmanager
def _served(metrics: Metrics, port: int) -> Iterator[None]:
    if not port:
        yield
        return
    server, thread = prometheus_client.start_http_server(port, registry=metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
