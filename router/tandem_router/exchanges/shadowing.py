"""Copies of requests for a challenger that is in nobody's way: its answers go nowhere.

A copy begins after its request, in the background, and takes part in nothing that the request needs: it has places at
the challenger's workers alone, a queue of its own, and is dropped where too many are under way. What became of it is
held against what became of its request, as a pair, for whoever compares the versions.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from tandem_api.inference_service.experiment import Shadow

from tandem_router.exchanges.exchange import Exchange, Request
from tandem_router.experiments.counting import Counting, Seen
from tandem_router.experiments.trial import seen
from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import Gone, Headers
from tandem_router.ids import ResponseIds
from tandem_router.scheduling.fleet import Service, Version
from tandem_router.scheduling.split import fnv1a_64
from tandem_router.telemetry.record import Record
from tandem_router.telemetry.tracing import NOWHERE

_log = logging.getLogger(__name__)

PARTS: Final = 100


class Pair:
    """What became of a request and of its copy: it counts once both are known."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._champion: Seen | None = None
        self._challenger: Seen | None = None

    def answered(self, seen: Seen) -> None:
        """The request is over."""
        self._champion = seen
        self._count()

    def copied(self, seen: Seen) -> None:
        """The copy is over."""
        self._challenger = seen
        self._count()

    def _count(self) -> None:
        if self._champion is not None and self._challenger is not None:
            self._counting.pair(self._champion, self._challenger)


class Copies:
    """Those of one router that are under way."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float],
        counts: Counter[tuple[str, str, str]],
        ids: ResponseIds,
    ) -> None:
        """Takes what it works with.

        Args:
            tasks: Owns the copies.
            clock: Seconds, never backwards.
            counts: What became of copies, by service, version and `answered`, `failed`, `full` or `not_ready`.
            ids: For answers that nobody gets.
        """
        self._tasks = tasks
        self._clock = clock
        self._counts = counts
        self._ids = ids
        self._running: dict[asyncio.Task[None], Version] = {}

    def offer(self, service: Service, version: Version, request: Request, request_id: str) -> Pair | None:
        """Copies a request that goes to a version, where it is among those that are to be copied."""
        experiment, counting = service.routes and service.routes.experiment, service.counting
        if not experiment or not experiment.shadow or counting is None or version.name != experiment.champion:
            return None
        challenger = service.versions.get(experiment.challenger)
        if challenger is None or not _drawn(experiment.id, request_id, experiment.shadow):
            return None
        if not challenger.ready:
            self._note(challenger, "not_ready")
            return None
        if sum(of is challenger for of in self._running.values()) >= experiment.shadow.max_in_flight:
            self._note(challenger, "full")
            return None
        pair = Pair(counting)
        task = self._tasks.create_task(self._run(challenger, request, request_id, pair), name=f"copy of {request_id}")
        self._running[task] = challenger
        task.add_done_callback(self._running.pop)
        return pair

    def stop(self) -> None:
        """Ends them all: nobody waits for them."""
        for task in list(self._running):
            task.cancel()

    async def _run(self, version: Version, request: Request, request_id: str, pair: Pair) -> None:
        frontend = request.frontend
        id = self._ids.issue(frontend.id_prefix, version.origin)
        own = Request(frontend, request.body, request.prompt, id)
        record = Record(received=self._clock())
        try:
            failure = await Exchange(own, version, Nobody(), record, NOWHERE, _NO_FRAME, self._clock).run()
        except Exception:
            _log.exception("the copy of request %s failed", request_id)
            return
        if failure is not None:
            record.error = record.error or failure.reason
            record.status, _ = frontend.shape.body(failure, request_id)
        seconds = self._clock() - record.received
        version.measures.count(record, seconds)
        pair.copied(seen(record, seconds))
        self._note(version, "failed" if record.failed else "answered")
        if record.failed:
            _log.warning("the copy of request %s failed at %s: %s", request_id, version.name, record.error)

    def _note(self, version: Version, what: str) -> None:
        self._counts[version.service.full_name, version.name, what] += 1


def _drawn(experiment: str, request_id: str, shadow: Shadow) -> bool:
    return fnv1a_64(f"{experiment}{request_id}".encode()) % PARTS < shadow.percent


class Nobody:
    """A client that does not exist, and never goes away."""

    began = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def watch(self, gone: Gone) -> None: ...

    def respond(self, status: int, headers: Headers, body: bytes) -> None: ...

    def begin(self, status: int, headers: Headers, chunk: bytes) -> None: ...

    def write(self, chunk: bytes) -> None: ...

    def end(self) -> None: ...

    def fail(self, event: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class _NoFrame:
    """Around an answer that nobody reads."""

    def headers_of(self, content_type: str, stream: bool) -> Headers:
        return ()

    def failure_event(self, failure: CallFailed) -> bytes:
        return b""


_NO_FRAME: Final = _NoFrame()
