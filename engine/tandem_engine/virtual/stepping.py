"""The loop that has the batch step, each step as long as it takes in the engine's time."""

import asyncio

from tandem_engine.errors import EngineDead, Unavailable
from tandem_engine.virtual.batching import Batch
from tandem_engine.virtual.clock import Clock
from tandem_engine.virtual.planning import Sequence

TURNS_TO_SEND = 2
"""Of the loop: what a step has said is on its way before the next one is prepared."""


class Stepper:
    """Steps while there is something to compute, and sleeps otherwise. `start` it in a task group that outlives it."""

    def __init__(self, batch: Batch, clock: Clock) -> None:
        self._batch = batch
        self._clock = clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._task = tasks.create_task(self._run(), name="virtual-engine-steps")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """See `Engine.check`."""
        if self._task is None:
            raise Unavailable("the engine has not started")
        if self._task.done():
            raise EngineDead("the engine has stopped")

    def submit(self, sequence: Sequence) -> None:
        self._batch.add(sequence)
        self._wake.set()

    def drop(self, *sequences: Sequence) -> None:
        for sequence in sequences:
            self._batch.remove(sequence)
        self._wake.set()  # what they held may be what others wait for

    def kv_arrived(self, sequence: Sequence) -> None:
        """See `Batch.kv_arrived`."""
        self._batch.kv_arrived(sequence)
        self._wake.set()

    def kv_lost(self, sequence: Sequence) -> None:
        """See `Batch.kv_lost`."""
        self._batch.kv_lost(sequence)
        self._wake.set()

    async def _run(self) -> None:
        due = self._clock.time()
        while True:
            plan = self._batch.begin()
            if not (plan.computes or plan.preempt):
                await self._wake.wait()
                self._wake.clear()
                due = self._clock.time()
                continue
            # From due time to due time, so that the pace does not depend on how long a step's own work takes.
            now = self._clock.time()
            due = max(due + plan.seconds, now)
            await self._clock.sleep(due - now)
            self._batch.finish(plan)
            for _ in range(TURNS_TO_SEND):
                await asyncio.sleep(0)
