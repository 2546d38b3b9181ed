"""Workers: they take services from the queue, and see to it that each is looked at again when it has to be."""

import asyncio
import logging
from typing import Final

from tandem_operator.cluster import ApiError
from tandem_operator.metrics import Metrics
from tandem_operator.queueing import Closed, KeyedQueue
from tandem_operator.reconciling import Reconciler
from tandem_operator.store import Key

CALM: Final = 10
"""Looks in a row that each wrote something, after which the next ones are spaced out: something writes against us."""

_log = logging.getLogger(__name__)


class Workers:
    """All of them, over one queue."""

    def __init__(self, queue: KeyedQueue[Key], reconciler: Reconciler, metrics: Metrics) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._writes: dict[Key, int] = {}
        """Looks in a row that wrote, by service."""

    async def run(self, count: int) -> None:
        """Works until the queue is closed. Looks that have begun are finished."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except Closed:
                return
            try:
                with self._metrics.seconds.time():
                    result = await self._look(key)
                self._metrics.reconciles.labels(result).inc()
            finally:
                self._queue.done(key)
                self._metrics.queue.set(len(self._queue))

    async def _look(self, key: Key) -> str:
        try:
            result = await self._reconciler.reconcile(key)
        except ApiError as error:
            after = self._queue.retry(key, error.retry_after)
            _log.warning("tries again", extra={"service": "/".join(key), "why": str(error), "after": after})
            return "unavailable"
        except Exception:
            # A fault of the operator in one service must not keep the others from being looked at.
            after = self._queue.retry(key, 1.0)
            _log.exception("failed at a service", extra={"service": "/".join(key), "after": after})
            return "failed"
        if result.gone:
            self._queue.forget(key)
        if result.again_after is not None:
            self._queue.add_after(key, result.again_after)
        if result.outdated:
            self._queue.retry(key)
            return "outdated"
        self._queue.succeeded(key)
        if not result.wrote:
            self._writes.pop(key, None)
            return "settled"
        row = self._writes[key] = self._writes.get(key, 0) + 1
        if row <= CALM:
            self._queue.add(key)
        else:
            self._queue.add_after(key, min(0.2 * 2 ** min(row - CALM, 6), 10.0))
        return "wrote"
