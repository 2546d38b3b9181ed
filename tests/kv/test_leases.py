import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from tandem_engine.errors import KvGone, Overloaded
from tandem_engine.kv.leases import Holding, LeaseBook, LeaseCounts, LeaseLimits

LIMITS = LeaseLimits(max_bytes=1000, max_fetches=3, ttl=10.0)
NOTHING = LeaseCounts(0, 0, 0)


@pytest.fixture
def book() -> LeaseBook[str]:
    return LeaseBook(LIMITS)


def test_a_granted_lease_gives_access_until_its_time_is_over(book: LeaseBook[str]) -> None:
    assert book.grant(b"a", "kv", 400, now=0.0) == 10.0
    assert book.peek(b"a", now=9.9) == "kv"
    with pytest.raises(KvGone):
        book.peek(b"a", now=10.0)
    assert book.counts() == NOTHING


def test_a_reservation_beyond_the_limit_is_refused_before_anything_is_computed(book: LeaseBook[str]) -> None:
    book.reserve(b"a", 600)
    with pytest.raises(Overloaded):
        book.reserve(b"b", 401)
    book.reserve(b"b", 400)


def test_a_reservation_gives_no_access_and_does_not_expire(book: LeaseBook[str]) -> None:
    book.reserve(b"a", 600)
    with pytest.raises(KvGone):
        book.begin_fetch(b"a", now=0.0)
    book.expire(now=1e9)
    assert book.counts() == LeaseCounts(0, 600, 0)
    assert book.release(b"a")
    assert book.counts() == NOTHING


def test_the_granted_bytes_take_the_place_of_the_reserved_ones(book: LeaseBook[str]) -> None:
    book.reserve(b"a", 600)
    book.grant(b"a", "kv", 500, now=0.0)
    assert book.counts() == LeaseCounts(1, 500, 0)


def test_handing_a_lease_on_voids_the_old_bits(book: LeaseBook[str]) -> None:
    book.grant(b"a", "kv", 400, now=0.0)
    assert book.renew(b"a", now=5.0, next_lease=b"b") == 10.0
    with pytest.raises(KvGone):
        book.peek(b"a", now=5.0)
    assert book.peek(b"b", now=14.9) == "kv"


def test_renewing_grants_no_more_than_the_limit(book: LeaseBook[str]) -> None:
    book.grant(b"a", "kv", 400, now=0.0)
    assert book.renew(b"a", now=1.0, ttl=3600.0) == 10.0
    assert book.renew(b"a", now=1.0, ttl=2.0) == 2.0


@pytest.mark.parametrize("ending", ["release", "expire"])
def test_bytes_are_not_freed_under_a_reader(book: LeaseBook[str], ending: str) -> None:
    book.grant(b"a", "kv", 400, now=0.0)
    reading = book.begin_fetch(b"a", now=1.0)
    book.release(b"a") if ending == "release" else book.expire(now=10.0)
    assert book.counts() == LeaseCounts(0, 400, 1)
    assert book.expired == (ending == "expire")
    assert reading.kv == "kv"
    with pytest.raises(KvGone):
        book.begin_fetch(b"a", now=1.0)
    book.end_fetch(reading)
    assert book.counts() == NOTHING
    assert reading.kv is None


def test_fetches_at_once_have_a_limit(book: LeaseBook[str]) -> None:
    book.grant(b"a", "kv", 400, now=0.0)
    reading = [book.begin_fetch(b"a", now=0.0) for _ in range(3)]
    with pytest.raises(Overloaded):
        book.begin_fetch(b"a", now=0.0)
    book.end_fetch(reading[0])
    book.begin_fetch(b"a", now=0.0)


def test_releasing_what_is_gone_is_no_error(book: LeaseBook[str]) -> None:
    assert not book.release(b"nothing")


class AnySequence(RuleBasedStateMachine):
    """Whatever is done in whatever order: limits hold, and all is given back within one TTL of the last act."""

    leases = Bundle("leases")
    fetches = Bundle("fetches")

    def __init__(self) -> None:
        super().__init__()
        self.book: LeaseBook[str] = LeaseBook(LIMITS)
        self.now = 0.0
        self.drawn = 0
        self.reserved: set[bytes] = set()
        self.void: set[bytes] = set()
        self.reading: list[Holding[str]] = []

    def draw(self) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(16)

    @rule(target=leases, size=st.integers(0, 500))
    def reserve(self, size: int) -> object:
        lease = self.draw()
        try:
            self.book.reserve(lease, size)
        except Overloaded:
            return multiple()
        self.reserved.add(lease)
        return lease

    @rule(lease=leases, size=st.integers(0, 500))
    def grant(self, lease: bytes, size: int) -> None:
        if lease in self.reserved:
            self.reserved.discard(lease)
            try:
                self.book.grant(lease, "kv", size, self.now)
            except Overloaded:
                self.void.add(lease)

    @rule(target=leases, lease=leases, ttl=st.floats(0, 20))
    def hand_on(self, lease: bytes, ttl: float) -> object:
        drawn = self.draw()
        try:
            self.book.renew(lease, self.now, ttl, drawn)
        except KvGone:
            return multiple()
        self.void.add(lease)
        return drawn

    @rule(target=fetches, lease=leases)
    def begin_fetch(self, lease: bytes) -> object:
        try:
            reading = self.book.begin_fetch(lease, self.now)
        except (KvGone, Overloaded):
            return multiple()
        assert lease not in self.void
        self.reading.append(reading)
        return reading

    @rule(fetch=consumes(fetches))
    def end_fetch(self, fetch: Holding[str]) -> None:
        assert fetch.kv == "kv", "dropped under its reader"
        self.reading.remove(fetch)
        self.book.end_fetch(fetch)

    @rule(lease=leases)
    def release(self, lease: bytes) -> None:
        self.book.release(lease)
        self.reserved.discard(lease)
        self.void.add(lease)

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.book.expire(self.now)

    @invariant()
    def limits_hold(self) -> None:
        counts = self.book.counts()
        assert 0 <= counts.bytes <= LIMITS.max_bytes
        assert counts.fetches == len(self.reading) <= LIMITS.max_fetches

    def teardown(self) -> None:
        for fetch in self.reading:
            self.book.end_fetch(fetch)
        for lease in self.reserved:
            self.book.release(lease)
        self.book.expire(self.now + LIMITS.ttl)
        assert self.book.counts() == NOTHING
        assert list(self.book) == []


TestAnySequence = AnySequence.TestCase
