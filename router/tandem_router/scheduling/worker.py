"""One worker as the scheduler sees it: may it be used, how much does it have to do, is there a place.

Unknown until it has said that it is ready. A worker that fails calls in a row rests for a while (passive ejection), as
long as there is another; what a client did wrong never counts.
"""

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from tandem_api.topology import WorkerEndpoint
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.failures import BLAMELESS, CallFailed
from tandem_router.scheduling.prefixes import PrefixIndex
from tandem_router.sessions.link import Link

EJECT_AFTER: Final = 3
"""Failures in a row."""
EJECT_SECONDS: Final = 1.0
LONGEST_EJECTION: Final = 30.0
REFUSED_SECONDS: Final = 0.1
"""How long a worker counts as full after it has refused a call as OVERLOADED; each time in a row twice as long."""
LONGEST_REFUSAL: Final = 1.6


class Worker:
    """State of one worker. `changed` is called whenever a call that waits could have become possible."""

    def __init__(
        self,
        endpoint: WorkerEndpoint,
        identity: pb.Identity,
        *,
        router: str,
        tls: Tls | None,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.endpoint = endpoint
        self.name = endpoint.name
        self.revision = identity.revision
        self.prefixes = PrefixIndex()
        # Whoever owns the link's task keeps the worker as long, and no longer: the two don't keep each other.
        self.link = Link(endpoint, router, tls, weakref.proxy(self))
        self.features: frozenset[str] = frozenset()
        """What it knows beyond the protocol's beginnings."""
        self.capacity = 0
        """Calls that its engine runs side by side; 0: unknown."""
        self.report = pb.Load()
        """As the worker last told it."""
        self.placed = 0
        """Places that this router's calls hold."""
        self.leases = 0
        """Leases of a prefill worker that this router's calls hold."""
        self.turn = 0
        self.ready = False
        """May be used: it has said so, and nobody has said since that it drains or leaves."""
        self.leaving = False
        """Its pod terminates: it finishes what it has."""
        self.retired = False
        self._identity = identity
        self._clock = clock
        self._changed = changed
        self._others = 0
        self._failures = 0
        self._ejected_until = 0.0
        self._refusals = 0
        self._refused_until = 0.0

    # ---- what the scheduler asks

    @property
    def load(self) -> int:
        """Calls of this router, and those of others as of the last report."""
        return self.placed + self._others

    @property
    def full(self) -> bool:
        """There is no place, nor is this router's part of them taken by others.

        A router that has more than its part never sees a place come free before it fills it again: the calls of others
        would wait for ever. What is taken beyond the places waits in the worker, whose queue is everybody's.
        """
        if self.capacity and self.load >= self.capacity and self.placed >= self._part:
            return True
        return self._refused_until > 0.0 and self._clock() < self._refused_until

    @property
    def ejected(self) -> bool:
        return self._ejected_until > 0.0 and self._clock() < self._ejected_until

    @property
    def _part(self) -> int:
        """Places that are this router's if it needs them; 0: the worker does not say how many routers there are."""
        routers = self.report.routers
        return max(1, self.capacity // routers) if routers else 0

    # ---- what calls tell

    def succeeded(self) -> None:
        self._failures = self._refusals = 0
        self._ejected_until = 0.0

    def failed(self, failure: CallFailed) -> None:
        """Counts against the worker, unless the client is to blame or the worker is merely full."""
        if failure.code == pb.OVERLOADED:
            self._refused()
        if failure.code in BLAMELESS:
            return
        self._failures += 1
        excess = self._failures - EJECT_AFTER
        if excess >= 0:
            self._ejected_until = self._clock() + min(EJECT_SECONDS * 2**excess, LONGEST_EJECTION)

    def _refused(self) -> None:
        now = self._clock()
        if now < self._refused_until:
            # Calls that were under way together are refused together: that is once.
            return
        pause = min(REFUSED_SECONDS * 2**self._refusals, LONGEST_REFUSAL)
        self._refusals += 1
        self._refused_until = now + pause
        # A little later, because timers may fire early.
        asyncio.get_running_loop().call_later(pause + REFUSED_SECONDS / 10, self._changed)

    def freed(self) -> None:
        """A place or a lease was given back."""
        if self.retired and not self.placed and not self.leases:
            self.link.close()
        self._changed()

    def leave(self) -> None:
        """Takes no more calls."""
        self.leaving = True
        self.ready = False

    def retire(self) -> None:
        """Takes no more calls; the session ends when those that run are over."""
        self.retired = True
        self.leave()
        self.freed()

    # ---- what its link tells

    def greeted(self, hello: pb.Hello) -> str | None:
        said, asked = hello.worker, self._identity
        for what in ("service", "model", "version", "revision", "name", "role"):
            found, wanted = getattr(said, what), getattr(asked, what)
            # Addresses are used again: another pod may answer at this one.
            if found and found != wanted:
                return f"its {what} is {found!r}, not {wanted!r}"
        self.report = pb.Load()
        self.capacity = hello.limits.max_running
        self.features = frozenset(hello.features)
        self._others = 0
        self.succeeded()
        return None

    def loaded(self, load: pb.Load) -> None:
        self.report = load
        self.ready = load.ready and not load.draining and not self.leaving
        self._others = max(0, load.open_calls - self.link.open_calls)
        self._changed()

    def lost(self) -> None:
        self.ready = False
        self.report = pb.Load()
        self._others = 0
        self._changed()


class Place:
    """A call's place at a worker, from when it is chosen until it is given back, by whatever way, once."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._held = True
        worker.placed += 1

    def close(self) -> None:
        if self._held:
            self._held = False
            self.worker.placed -= 1
            self.worker.freed()


class Lease:
    """A prompt's KV that a prefill worker holds for this call."""

    def __init__(self, worker: Worker, handle: kv_pb2.KvHandle) -> None:
        self.worker = worker
        self.handle = handle
        self.spent = False
        """A decode worker has got the handle: another one needs it handed on."""
        self._held = True
        worker.leases += 1

    def renewed(self, handle: kv_pb2.KvHandle) -> None:
        """Other bits, known to no decode worker yet."""
        self.handle = handle
        self.spent = False

    def release(self) -> None:
        """At decode's first byte, or when the call is over in another way."""
        if self._held:
            self.worker.link.release(self.handle.lease)
            self.forget()

    def forget(self) -> None:
        """The worker holds it no more."""
        if self._held:
            self._held = False
            self.worker.leases -= 1
            self.worker.freed()
