"""The lease book: who may fetch which KV, for how long, and how much may be held at once.

Pure: the time comes in with each call, nothing here waits or locks (`tandem_engine.kv.staging` does). A lease goes

    reserved -> granted -> fetching -> released | expired

where fetching is no must: it may be released before, and expires if nobody comes. While fetches are under way its KV
stays counted, whatever became of the lease: nothing is dropped under a reader. Handing a lease on draws fresh bits and
voids the old ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from tandem_engine.errors import KvGone, Overloaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LeaseLimits:
    """What a holder grants: bytes held at once (reservations included), fetches at once, seconds of a lease."""

    max_bytes: int
    max_fetches: int
    ttl: float


@dataclass(frozen=True, slots=True)
class LeaseCounts:
    """What is held. All are zero when all leases and fetches are over."""

    leases: int
    """Granted and not over."""
    bytes: int
    """Reserved, granted, or still being read."""
    fetches: int


@dataclass(slots=True, eq=False)
class Holding(Generic[T]):
    """One prompt's KV in the book. `kv` is None until the lease is granted."""

    bytes: int
    kv: T | None = None
    expires: float | None = None
    """On the book's clock; None: not granted."""
    fetches: int = 0
    over: bool = False
    """Released or expired: no fetch may begin."""


class LeaseBook(Generic[T]):
    """All leases of one holder. `T` is what a lease gives access to."""

    def __init__(self, limits: LeaseLimits) -> None:
        self._limits = limits
        self._by_lease: dict[bytes, Holding[T]] = {}
        self._bytes = 0
        self._fetches = 0
        self.expired = 0
        """Leases so far that nobody ended in time."""

    @property
    def limits(self) -> LeaseLimits:
        return self._limits

    def counts(self) -> LeaseCounts:
        granted = sum(1 for holding in self._by_lease.values() if holding.expires is not None)
        return LeaseCounts(granted, self._bytes, self._fetches)

    def reserve(self, lease: bytes, size: int) -> None:
        """Keeps `size` bytes free for a prefill that is about to start. It lasts until granted or released.

        Raises:
            Overloaded: the bytes would go beyond the limit.
            ValueError: the lease exists.
        """
        if lease in self._by_lease:
            raise ValueError("a lease with these bits exists")
        self._take(size)
        self._by_lease[lease] = Holding(size)

    def grant(self, lease: bytes, kv: T, size: int, now: float, ttl: float | None = None) -> float:
        """Lets the holder of `lease` fetch `kv`, and returns the seconds that it may.

        Args:
            lease: a reserved one, or fresh bits.
            kv: what is fetched.
            size: its bytes: takes the place of what was reserved.
            now: the book's time.
            ttl: seconds; None: as the limits say, and never more.

        Raises:
            Overloaded: the bytes go beyond the limit; a reservation is given back.
            ValueError: the lease is granted already.
        """
        reserved = self._by_lease.get(lease)
        if reserved is not None:
            if reserved.expires is not None:
                raise ValueError("the lease is granted already")
            self._end(lease)
        self._take(size)
        allowed = self._allowed(ttl)
        self._by_lease[lease] = Holding(size, kv, now + allowed)
        return allowed

    def renew(self, lease: bytes, now: float, ttl: float | None = None, next_lease: bytes = b"") -> float:
        """Begins the lease's time anew, hands it on to other bits where given, and returns its seconds.

        Raises:
            KvGone: it is over, or was never granted.
            ValueError: the other bits are in use.
        """
        holding = self._granted(lease, now)
        allowed = self._allowed(ttl)
        if next_lease:
            if next_lease in self._by_lease:
                raise ValueError("a lease with the next bits exists")
            self._by_lease[next_lease] = self._by_lease.pop(lease)
        holding.expires = now + allowed
        return allowed

    def peek(self, lease: bytes, now: float) -> T:
        """What the lease gives access to.

        Raises:
            KvGone: it is over, or was never granted.
        """
        kv = self._granted(lease, now).kv
        assert kv is not None
        return kv

    def remaining(self, lease: bytes, now: float) -> float:
        """Seconds that the lease lasts yet; 0 where it is over, or was never granted."""
        holding = self._by_lease.get(lease)
        return 0.0 if holding is None or holding.expires is None else max(0.0, holding.expires - now)

    def begin_fetch(self, lease: bytes, now: float) -> Holding[T]:
        """A fetch begins; end it with `end_fetch`, whatever comes.

        Raises:
            KvGone: the lease is over, or was never granted.
            Overloaded: too many fetches are under way.
        """
        holding = self._granted(lease, now)
        if self._fetches >= self._limits.max_fetches:
            raise Overloaded(f"{self._fetches} KV fetches are under way, the limit")
        holding.fetches += 1
        self._fetches += 1
        return holding

    def end_fetch(self, holding: Holding[T]) -> None:
        """The fetch is over. The last one of a lease that is over frees the bytes."""
        holding.fetches -= 1
        self._fetches -= 1
        self._free(holding)

    def release(self, lease: bytes) -> bool:
        """Ends a lease or a reservation; False where it is gone already, which is no error."""
        return self._end(lease)

    def expire(self, now: float) -> int:
        """Ends all leases whose time is over, and returns their number."""
        late = [bits for bits, held in self._by_lease.items() if held.expires is not None and held.expires <= now]
        for bits in late:
            self._end(bits)
        self.expired += len(late)
        return len(late)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._by_lease)

    def _granted(self, lease: bytes, now: float) -> Holding[T]:
        self.expire(now)
        holding = self._by_lease.get(lease)
        if holding is None or holding.expires is None:
            raise KvGone("the KV lease has expired, was released, or never was")
        return holding

    def _allowed(self, ttl: float | None) -> float:
        return self._limits.ttl if not ttl else min(ttl, self._limits.ttl)

    def _take(self, size: int) -> None:
        if self._bytes + size > self._limits.max_bytes:
            raise Overloaded(
                f"{self._bytes} of {self._limits.max_bytes} bytes of KV wait to be fetched: no room for {size} more"
            )
        self._bytes += size

    def _end(self, lease: bytes) -> bool:
        holding = self._by_lease.pop(lease, None)
        if holding is None:
            return False
        holding.over = True
        self._free(holding)
        return True

    def _free(self, holding: Holding[T]) -> None:
        if holding.over and not holding.fetches:
            self._bytes -= holding.bytes
            holding.kv = None
