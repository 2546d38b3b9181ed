"""The router's state and what keeps it up to date, without anything of HTTP."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol, Self

from tandem_api.experiments import rules
from tandem_api.topology import ExperimentRoutes, Topology
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.access.following import Following
from tandem_router.access.ring import KeyRing
from tandem_router.discovery import Source
from tandem_router.entropy import Pool
from tandem_router.exchanges.shadowing import Copies
from tandem_router.experiments.counting import Counting
from tandem_router.failures import CallFailed
from tandem_router.ids import ResponseIds
from tandem_router.limits.limiter import Limiter
from tandem_router.limits.shared import SharedBuckets
from tandem_router.scheduling.fleet import Fleet
from tandem_router.settings import Settings
from tandem_router.telemetry.logs import AccessLog
from tandem_router.telemetry.measures import RouterMeasures
from tandem_router.telemetry.tracing import Tracer

_log = logging.getLogger(__name__)

FAREWELL_SECONDS: Final = 1.0
"""For the sessions to end: leases that were given back last must still be heard of."""


LAST_CALL_SECONDS: Final = 0.25
"""For those who have just got the end of a stream, and send their next request before they hear of ours."""


class Open(Protocol):
    """A request that is being answered."""

    def stop(self, failure: CallFailed) -> None:
        """Ends it with `failure`, wherever it is."""


class Router(AbstractAsyncContextManager["Router"]):
    """Entered, it follows its source and holds a session to each worker; left, it has ended all of that."""

    fleet: Fleet
    copies: Copies

    def __init__(
        self,
        settings: Settings,
        source: Source,
        tracer: Tracer,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`clock` counts seconds and never goes back; `entropy(n)` gives n random bytes; `wall` gives Unix seconds."""
        self._wall = wall
        self.settings = settings
        self.tracer = tracer
        self.clock = clock
        self.entropy = Pool(entropy).take
        self.keys = KeyRing(settings.access, clock, wall)
        limits = settings.limits
        shared = SharedBuckets(limits.redis_url) if limits.redis_url else None
        self.limiter = Limiter(limits, clock, wall, shared)
        self.ids = ResponseIds(settings.id_key or entropy(32), self.entropy)
        self.measures = RouterMeasures(clock, settings.latency_buckets_ms)
        self.access_log = AccessLog(settings.log_level)
        self.open: set[Open] = set()
        """Requests that are being answered."""
        self.leaving = False
        """It was told to end, and is not ready any more."""
        self.draining = False
        """It takes no more requests."""
        self._source = source
        self._tasks = asyncio.TaskGroup()
        self._idle = asyncio.Event()
        self._was_ready = False
        self._known_since: float | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self.fleet = Fleet(
            self._tasks,
            router=self.settings.name,
            tls=None if self.settings.tls is None else Tls(self.settings.tls),
            clock=self.clock,
            measures=self.measures.version,
            counting=self._count,
        )
        self.copies = Copies(self._tasks, self.clock, self.measures.copies, self.ids)
        self._following = [self._tasks.create_task(self._follow(), name="follow the topology")]
        access = self.settings.access
        if access.store:
            following = Following(self.keys, self.settings.registry_url, access.service_key, access.poll)
            self._following.append(self._tasks.create_task(following.run(), name="follow the registry's keys"))
        if self.limiter.shared is not None:
            self._following.append(self._tasks.create_task(self.limiter.shared.run(), name="keep shared limits"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._following:
            task.cancel()
        self.copies.stop()
        await self.fleet.close(FAREWELL_SECONDS)
        await self._tasks.__aexit__(kind, error, trace)
        self.tracer.close()
        self.access_log.flush()

    async def _follow(self) -> None:
        await self._source.follow(self._apply)

    def _apply(self, topology: Topology) -> None:
        self.fleet.apply(topology)
        self.measures.keep({(s.full_name, name) for s in self.fleet.services.values() for name in s.versions})
        if self._known_since is None:
            self._known_since = self.clock()

    def _count(self, experiment: ExperimentRoutes) -> Counting:
        """Starts to count; what a former start counted has been reported under another name."""
        incarnation = f"{self.settings.name} {self.entropy(4).hex()}"
        return Counting(experiment.id, rules(experiment.decide), incarnation, self._wall)

    @property
    def ready(self) -> bool:
        """Once there is a session to every worker that counts as serving, or time has passed; then until SIGTERM.

        Not before the keys are known: nobody could be let in. The loss of a worker takes no readiness: every router
        would lose it at once.
        """
        if not self._was_ready and self._known_since is not None and self.keys.known:
            missing = [w for w in self.fleet.workers if w.endpoint.ready and not w.link.connected]
            if missing and self.clock() - self._known_since < self.settings.ready_after:
                return False
            for worker in missing:
                _log.warning("ready without %s, which can't be reached: %s", worker.name, worker.link.trouble)
            self._was_ready = True
        return self._was_ready and not self.leaving

    def closed(self, request: Open) -> None:
        """A request is over."""
        self.open.discard(request)
        if not self.open:
            self._idle.set()

    async def leave(self) -> None:
        """Says that it is not ready, and takes requests until everybody who sends some may have heard of that."""
        self.leaving = True
        if self.settings.lame_duck:
            _log.info("not ready any more; taking requests for another %g s", self.settings.lame_duck)
            await asyncio.sleep(self.settings.lame_duck)

    async def drain(self) -> None:
        """Takes no more requests and lets those that run end within the grace period; the rest get a typed error."""
        self.leaving = self.draining = True
        self.copies.stop()
        _log.info("draining: %d open requests have %g s", len(self.open), self.settings.grace)
        end = self.clock() + self.settings.grace
        if self.open and await self._emptied(self.settings.grace):
            await asyncio.sleep(LAST_CALL_SECONDS)
        if not await self._emptied(max(0.0, end - self.clock())):
            _log.warning("ending %d requests after the grace period", len(self.open))
            for request in list(self.open):
                request.stop(CallFailed(pb.UNAVAILABLE, "the router is shutting down", reason="shutdown"))
            await self._emptied(FAREWELL_SECONDS)

    async def _emptied(self, timeout: float) -> bool:
        if self.open:
            self._idle.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._idle.wait()
            except TimeoutError:
                return False
        return True
