"""Staged KV: host memory that waits under a lease to be fetched. The lock around the lease book stands here.

One `Staging` serves one tensor-parallel rank. It is used from gRPC threads and from the engine's own.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tandem_engine.kv.leases import LeaseBook, LeaseCounts, LeaseLimits

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class StagedKv:
    """A rank's share of one prompt's KV: for each layer `[blocks, heads, head_bytes]`, contiguous.

    `head_bytes` are those of one head in one block: block_size x K and V of a token.
    """

    content_hash: bytes
    blocks: int
    heads: int
    head_bytes: int
    layers: Sequence[Buffer]
    tokens: int = 0
    """Of the prompt, for those who write a handle from what is staged."""

    def __post_init__(self) -> None:
        want = self.blocks * self.heads * self.head_bytes
        for index, layer in enumerate(self.layers):
            if len(memoryview(layer).cast("B")) != want:
                raise ValueError(f"layer {index} has not the {want} bytes of {self.blocks} blocks x {self.heads} heads")

    @property
    def bytes(self) -> int:
        return len(self.layers) * self.blocks * self.heads * self.head_bytes

    def cut(self, layer: int, first_block: int, head_start: int, head_count: int) -> memoryview:
        """The bytes of some heads from a block on: a view where all heads are wanted, else a copy.

        Raises:
            ValueError: the range is outside of what is held.
        """
        heads = head_count or self.heads - head_start
        if not (0 <= first_block <= self.blocks and head_start >= 0 and 0 < heads <= self.heads - head_start):
            raise ValueError(f"{self.blocks} blocks and {self.heads} heads are held")
        view = memoryview(self.layers[layer]).cast("B")
        if heads == self.heads:
            return view[first_block * self.heads * self.head_bytes :]
        shaped = np.frombuffer(view, dtype=np.uint8).reshape(self.blocks, self.heads, self.head_bytes)
        picked = np.ascontiguousarray(shaped[first_block:, head_start : head_start + heads])
        return picked.data.cast("B")


class Staging:
    """Thread-safe leases over `StagedKv`.

    Args:
        limits: of bytes, fetches and time.
        clock: seconds, monotone.
    """

    def __init__(self, limits: LeaseLimits, clock: Callable[[], float]) -> None:
        self._book: LeaseBook[StagedKv] = LeaseBook(limits)
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def limits(self) -> LeaseLimits:
        return self._book.limits

    @property
    def expired(self) -> int:
        """Leases so far that nobody ended in time: each is KV computed for nothing, or a release that got lost."""
        return self._book.expired

    def counts(self) -> LeaseCounts:
        with self._lock:
            self._book.expire(self._clock())
            return self._book.counts()

    def reserve(self, lease: bytes, size: int) -> None:
        """See `LeaseBook.reserve`."""
        with self._lock:
            self._book.expire(self._clock())
            self._book.reserve(lease, size)

    def stage(self, lease: bytes, kv: StagedKv, ttl: float | None = None) -> float:
        """Grants `lease`, reserved or fresh, and returns its seconds. See `LeaseBook.grant` for the errors."""
        with self._lock:
            now = self._clock()
            self._book.expire(now)
            return self._book.grant(lease, kv, kv.bytes, now, ttl)

    def renew(self, lease: bytes, ttl: float | None = None, next_lease: bytes = b"") -> float:
        """See `LeaseBook.renew`."""
        with self._lock:
            return self._book.renew(lease, self._clock(), ttl, next_lease)

    def remaining(self, lease: bytes) -> float:
        """See `LeaseBook.remaining`."""
        with self._lock:
            return self._book.remaining(lease, self._clock())

    def peek(self, lease: bytes) -> StagedKv:
        """See `LeaseBook.peek`."""
        with self._lock:
            return self._book.peek(lease, self._clock())

    def release(self, lease: bytes) -> bool:
        """See `LeaseBook.release`."""
        with self._lock:
            return self._book.release(lease)

    def expire(self) -> int:
        """Drops what nobody fetched in time. Called by the server's housekeeping, for the memory's sake."""
        with self._lock:
            return self._book.expire(self._clock())

    @contextmanager
    def reading(self, lease: bytes) -> Iterator[StagedKv]:
        """The KV of a lease, kept while it is read.

        Raises:
            KvGone: the lease is over.
            Overloaded: too many fetches are under way.
        """
        with self._lock:
            holding = self._book.begin_fetch(lease, self._clock())
            kv = holding.kv
        try:
            assert kv is not None
            yield kv
        finally:
            with self._lock:
                self._book.end_fetch(holding)
