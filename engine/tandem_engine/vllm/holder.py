"""What a prefill worker holds for others: leases as its front end keeps them, in step with the ranks that stage the KV.

Bytes are reserved here, before a prompt is computed. The KV itself is staged in the engine's processes, where the ranks
serve it; they keep the same leases, and each side lets go of them by its own clock. A decode worker that keeps a call
waiting renews its lease at the first rank: it is seen here, and told to the others.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvGone, Unavailable
from tandem_engine.kv.leases import LeaseBook, LeaseCounts, LeaseLimits

LEASE_BYTES = 16


class Holder:
    """A context manager: it owns the tasks that tell the ranks of releases, and look for renewals.

    Args:
        ask: calls a method of every rank's worker and returns their answers.
        limits: bytes over all ranks, and seconds.
        randomness: so many random bytes.
        clock: seconds, monotone.
    """

    def __init__(
        self,
        ask: Callable[..., Awaitable[list[Any]]],
        limits: LeaseLimits,
        randomness: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._ask = ask
        self._random = randomness
        self._clock = clock
        self._book: LeaseBook[kv_pb2.KvHandle] = LeaseBook(limits)
        self._released: asyncio.Queue[bytes] = asyncio.Queue()
        self._ending: set[bytes] = set()
        """Released, and the ranks not told yet: their bytes are not free before."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Holder":
        self._tasks = [
            asyncio.create_task(self._tell(), name="kv releases"),
            asyncio.create_task(self._look(), name="kv renewals"),
        ]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def counts(self) -> LeaseCounts:
        self._book.expire(self._clock())
        return self._book.counts()

    @property
    def limits(self) -> LeaseLimits:
        return self._book.limits

    @property
    def expired(self) -> int:
        """See `LeaseBook.expired`."""
        return self._book.expired

    def reserve(self, size: int) -> bytes:
        """A fresh lease, with room for so many bytes.

        Raises:
            Overloaded: there is none.
        """
        self._book.expire(self._clock())
        lease = self._random(LEASE_BYTES)
        self._book.reserve(lease, size)
        return lease

    def grant(self, handle: kv_pb2.KvHandle) -> kv_pb2.KvHandle:
        """The KV of a reserved lease is staged: its time begins. Returns the handle with its time."""
        ttl = self._book.grant(handle.lease, handle, handle.bytes, self._clock())
        handle.ttl_ms = round(ttl * 1000)
        return handle

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        """See `Engine.hand_on`."""
        if lease in self._ending:
            raise KvGone("the KV lease was released")
        following = self._random(LEASE_BYTES)
        ttl = self._book.renew(lease, self._clock(), next_lease=following)
        handle = kv_pb2.KvHandle()
        handle.CopyFrom(self._book.peek(following, self._clock()))
        handle.lease = following
        handle.ttl_ms = round(ttl * 1000)
        try:
            renewed = await self._ask("tandem_renew", lease, following)
        except BaseException:
            self.release(following)
            self.release(lease)
            raise
        if not all(renewed):
            self.release(following)
            raise KvGone("the KV lease has expired or was released")
        return handle

    def release(self, lease: bytes) -> None:
        """See `Engine.release`. Its bytes are free once the ranks were told."""
        if lease not in self._ending:
            self._ending.add(lease)
            self._released.put_nowait(lease)

    async def _tell(self) -> None:
        while True:
            leases = [await self._released.get()]
            while not self._released.empty():
                leases.append(self._released.get_nowait())
            with suppress(Unavailable):  # the ranks let go by themselves then, when the time is over
                await self._ask("tandem_release", leases)
            for lease in leases:
                self._ending.discard(lease)
                self._book.release(lease)

    async def _look(self) -> None:
        """Before leases are over here, finds out which of them last longer at a rank."""
        while True:
            await asyncio.sleep(self.limits.ttl / 6)
            before = {lease: self._book.remaining(lease, self._clock()) for lease in self._book}
            ageing = [lease for lease, left in before.items() if 0 < left < self.limits.ttl * 2 / 3]
            if ageing:
                with suppress(Unavailable):  # the next look has the same to say
                    for lease, *left in zip(ageing, *await self._ask("tandem_remaining", ageing), strict=True):
                        # A rank's time begins before ours: only a renewal lets it last longer.
                        if max(left) > before[lease] and lease not in self._ending:
                            await self._renewed(lease)

    async def _renewed(self, lease: bytes) -> None:
        """Ours last: else each look would find that the ranks' time begins after ours."""
        await self._ask("tandem_renew", lease, b"")
        with suppress(KvGone):
            self._book.renew(lease, self._clock())
