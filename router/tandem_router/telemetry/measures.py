"""What a router counts while it works: plain integers, so that counting costs nothing worth mentioning.

`tandem_router.endpoints.metrics` turns them into Prometheus text when somebody asks, `tandem_router.endpoints.status`
into the answer for people.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

from tandem_router.telemetry.record import Record

LATENCY_MS: Final = (10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)
"""Buckets of request_latency_ms, unless settings have others."""
SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)
"""Buckets of all other durations."""
SCORES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EWMA_ALPHA: Final = 0.1
RATE_SECONDS: Final = 60
"""Over which the generation rate rolls."""
FORMER: Final = 64
"""Versions that are served no more, and whose counters are still shown."""
RECENT_SECONDS: Final = 150.0
"""Of one of the two windows that "the last minutes" are made of."""


class Distribution:
    """A histogram: how many values fell into each bucket, and their sum."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def quantile(self, q: float) -> float | None:
        """Interpolated inside its bucket; None without values. The last bound stands for all beyond it."""
        total = sum(self.counts)
        if not total:
            return None
        rank, below = q * total, 0
        for index, bound in enumerate(self.bounds):
            count = self.counts[index]
            if count and below + count >= rank:
                start = self.bounds[index - 1] if index else 0.0
                return start + (bound - start) * (rank - below) / count
            below += count
        return self.bounds[-1]


class Recent:
    """A distribution over the last minutes: two windows, the older one dropped when the younger is full."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._old, self._young = Distribution(), Distribution()

    def observe(self, value: float) -> None:
        self._turn()
        self._young.observe(value)

    def quantile(self, q: float) -> float | None:
        self._turn()
        both = Distribution()
        both.counts = [a + b for a, b in zip(self._old.counts, self._young.counts, strict=True)]
        return both.quantile(q)

    def _turn(self) -> None:
        now = self._clock()
        if now - self._since >= RECENT_SECONDS:
            fresh = now - self._since < 2 * RECENT_SECONDS
            self._old, self._young, self._since = self._young if fresh else Distribution(), Distribution(), now


class Rate:
    """Tokens of finished requests per second: over the last minute, and as an average that forgets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._tokens = [0] * RATE_SECONDS
        self._second = [0] * RATE_SECONDS
        self.ewma = 0.0
        self._any = False

    def add(self, tokens: int, seconds: float) -> None:
        """A request that generated `tokens` in `seconds`."""
        second = int(self._clock())
        slot = second % RATE_SECONDS
        if self._second[slot] != second:
            self._second[slot], self._tokens[slot] = second, 0
        self._tokens[slot] += tokens
        if seconds > 0:
            rate = tokens / seconds
            self.ewma = EWMA_ALPHA * rate + (1 - EWMA_ALPHA) * self.ewma if self._any else rate
            self._any = True

    @property
    def rolling(self) -> float:
        now = self._clock()
        oldest = int(now) - RATE_SECONDS
        tokens = sum(t for t, second in zip(self._tokens, self._second, strict=True) if second > oldest)
        return tokens / min(RATE_SECONDS, max(1.0, now - self._started))


class VersionMeasures:
    """Of one version of a service."""

    def __init__(self, service: str, version: str, clock: Callable[[], float]) -> None:
        self.service = service
        self.version = version
        self.requests: Counter[int] = Counter()
        """By HTTP status; 499 where the client went away."""
        self.errors = 0
        """Requests that ended in a failure that is not the client's."""
        self.prompt_tokens = 0
        self.estimated_tokens = 0
        """What the router took the prompts for, beside what they were."""
        self.completion_tokens = 0
        self.retries: Counter[tuple[str, str]] = Counter()
        """By role and reason."""
        self.kv: Counter[tuple[str, str]] = Counter()
        """Answers by how they came by their prompt's KV, and why so."""
        self.kv_bytes = 0
        self.ttft = Distribution()
        self.worker_ttft = Distribution()
        self.recent_ttft = Recent(clock)
        self.tpot = Distribution()
        self.queued = Distribution()
        self.held = Distribution()
        self.prefill = Distribution()
        self.kv_transfer = Distribution()
        self.score = Distribution(SCORES)

    def count(self, record: Record, seconds: float) -> None:
        """A request of this version is over."""
        self.requests[record.status] += 1
        self.errors += record.failed
        self.prompt_tokens += record.prompt_tokens
        self.estimated_tokens += record.estimated_tokens
        self.completion_tokens += record.completion_tokens
        self.queued.observe(record.queued)
        if record.held:
            self.held.observe(record.queued)
        for retry in record.retries:
            self.retries[retry] += 1
        if record.kv_outcome:
            self.kv[record.kv_outcome, record.kv_reason] += 1
        if record.kv_bytes:
            self.kv_bytes += record.kv_bytes
            self.kv_transfer.observe(record.kv_seconds)
        if record.prefill:
            self.prefill.observe(record.prefill)
        if record.worker_ttft is not None:
            self.worker_ttft.observe(record.worker_ttft)
        if record.ttft is not None:
            self.ttft.observe(record.ttft)
            self.recent_ttft.observe(record.ttft)
            if record.completion_tokens > 1:
                self.tpot.observe((seconds - record.ttft) / (record.completion_tokens - 1))


class RouterMeasures:
    """Of the whole router."""

    def __init__(self, clock: Callable[[], float], latency_ms: Sequence[float] = LATENCY_MS) -> None:
        self._clock = clock
        self.requests = 0
        self.tokens = 0
        self.rate = Rate(clock)
        self.latency_ms = Distribution(latency_ms)
        self.active = 0
        self.errors: Counter[tuple[str, int]] = Counter()
        """By endpoint, of a fixed set, and status."""
        self.refused: Counter[str] = Counter()
        """Requests that were not let in, by why."""
        self.cut_off = 0
        """Clients that left too much unread."""
        self.cut_streams: Counter[str] = Counter()
        """Streams that ended before their end, by reason; their tokens are counted nowhere, because only a worker's
        usage is the truth."""
        self.copies: Counter[tuple[str, str, str]] = Counter()
        """Copies of requests for challengers, by service, version and what became of them."""
        self.versions: dict[tuple[str, str], VersionMeasures] = {}

    def version(self, service: str, version: str) -> VersionMeasures:
        """Those of a version; they outlive it for a while, because counters don't go back."""
        key = (service, version)
        if key not in self.versions:
            self.versions[key] = VersionMeasures(service, version, self._clock)
        return self.versions[key]

    def keep(self, served: Collection[tuple[str, str]]) -> None:
        """Forgets those that are not among the versions that are served, by service, where they are too many."""
        former = [key for key in self.versions if key not in served]
        for key in former[:-FORMER]:
            del self.versions[key]
        for labels in [labels for labels in self.copies if labels[:2] not in self.versions]:
            del self.copies[labels]

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """A request is over, whatever it was but a probe or a scrape."""
        self.requests += 1
        self.latency_ms.observe(seconds * 1000)
        if status >= 400:
            self.errors[endpoint, status] += 1
