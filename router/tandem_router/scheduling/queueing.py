"""Requests that wait for a place: bounded, first come first served, none for ever.

One queue for each version, so that a full version holds up nobody else's; one bound for a service. A version may be
held: it has no pair for a moment, as a rollout without spare GPUs demands, and requests wait for the next one in the
same queue, for longer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem_api.inference_service import RoutingSpec
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.failures import CallFailed
from tandem_router.scheduling.pairing import Demand, Grant, NoWorker, Pairing, Revision


@dataclass(slots=True)
class Room:
    """How many requests of a service wait, over all its versions."""

    limit: int
    taken: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    demand: Demand
    again: bool
    patient: bool
    """It has been told that a worker is to come."""
    granted: asyncio.Future[Grant]


class Queue:
    """The way to places at one version's workers. `revisions` gives those that serve it at the moment."""

    def __init__(
        self, pairing: Pairing, revisions: Callable[[], Sequence[Revision]], room: Room, routing: RoutingSpec
    ) -> None:
        self.pairing = pairing
        self.room = room
        self.routing = routing
        self._held_seconds: float | None = None
        self._revisions = revisions
        self._waiting: deque[_Waiter] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> bool:
        """Requests wait although there is no worker: one is to come."""
        return self._held_seconds is not None

    def hold(self, seconds: float | None) -> None:
        """Lets requests wait so long for a worker to come; None: those that come find out at once that there is none.

        Those that wait already keep their time, so that the one who is the first to be served does not end the wait of
        all others.
        """
        self._held_seconds = seconds

    async def take(self, demand: Demand, *, again: bool = False) -> Grant:
        """Places as demanded, at once or when they come free. Whoever cancels this holds nothing.

        A call that comes `again`, because a worker failed it, goes before those that have not been served at all. It
        may be bound to a revision, so the others need not wait for it: each is passed by whom it can't hold up.

        Raises:
            NoWorker: no place can come free.
            CallFailed: OVERLOADED, the queue is full or the wait too long; UNAVAILABLE, no worker got ready meanwhile.
        """
        # Calls that come again are at the front: where the last is one, all are.
        first = again or not self._waiting or self._waiting[-1].again
        patient = self._may_wait(demand)
        try:
            if first and (grant := self.pairing.take(self._revisions(), demand)):
                return grant
        except NoWorker:
            if not patient:
                raise
        if not again and self.room.taken >= self.room.limit:
            raise CallFailed(
                pb.OVERLOADED, "all workers of the model are busy and the queue is full", reason="queue_full"
            )
        return await self._wait(_Waiter(demand, again, patient, asyncio.get_running_loop().create_future()))

    async def _wait(self, waiter: _Waiter) -> Grant:
        room = self.room
        room.taken += 1
        self._waiting.appendleft(waiter) if waiter.again else self._waiting.append(waiter)
        seconds = self._patience
        try:
            await asyncio.wait((waiter.granted,), timeout=seconds)
            if not waiter.granted.done() and self.held and self._patience > seconds:
                # The version has come to be held meanwhile.
                seconds, more = self._patience, self._patience - seconds
                await asyncio.wait((waiter.granted,), timeout=more)
            if not waiter.granted.done():
                raise self._too_long(seconds)
            return waiter.granted.result()
        except asyncio.CancelledError:
            # A grant may have come in the same turn of the loop.
            if waiter.granted.done() and not waiter.granted.exception():
                waiter.granted.result().close()
            raise
        finally:
            room.taken -= 1
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    @property
    def _patience(self) -> float:
        """Seconds that a request waits."""
        return self.routing.queue.timeout if self._held_seconds is None else self._held_seconds

    def _may_wait(self, demand: Demand) -> bool:
        """A worker is to come. For a call that is bound to what it holds, none is: it is better to begin again."""
        return self.held and demand.revision is None

    def _too_long(self, seconds: float) -> CallFailed:
        waited = f"after {seconds:g} s in the queue"
        if any(revision.traffic and revision.usable for revision in self._revisions()):
            return CallFailed(pb.OVERLOADED, f"no place came free {waited}", reason="queue_timeout")
        return CallFailed(pb.UNAVAILABLE, f"no worker of the model was ready {waited}", reason="queue_timeout")

    def pump(self) -> None:
        """Grants what can be granted, in order. To be called whenever a place may have come free."""
        passed: list[_Waiter] = []
        while self._waiting:
            waiter = self._waiting[0]
            if not waiter.granted.done() and not self._serve(waiter):
                if not waiter.again:
                    # Who is behind wants no less.
                    break
                passed.append(waiter)
            self._waiting.popleft()
        self._waiting.extendleft(reversed(passed))

    def _serve(self, waiter: _Waiter) -> bool:
        """Tells a waiter what it waits for, if there is anything to tell."""
        try:
            grant = self.pairing.take(self._revisions(), waiter.demand)
        except NoWorker as none_left:
            if not waiter.again or waiter.patient or self._may_wait(waiter.demand):
                # A worker may come back before the wait is over.
                return False
            # It may hold places and KV that are of no use any more.
            waiter.granted.set_exception(none_left)
            return True
        if grant is None:
            return False
        waiter.granted.set_result(grant)
        return True

    def close(self) -> None:
        """The version is gone: nobody need wait any more, nor know of it."""
        self._revisions = tuple
        for waiter in self._waiting:
            if not waiter.granted.done():
                waiter.granted.set_exception(CallFailed(pb.UNAVAILABLE, "the model's version was taken out of service"))
