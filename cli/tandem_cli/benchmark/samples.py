"""What is known of one request when it is over. All that a report says follows from these."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request. Moments are seconds since the measurement began."""

    due: float
    """When it should have been sent. Latencies count from here: a client that waits, waits."""
    sent: float
    end: float
    """When the answer was whole, or had failed."""
    moments: tuple[float, ...] = ()
    """Of a stream: when each event with content came."""
    prompt_tokens: int = 0
    """By the server's own count; 0 where it gave none."""
    output_tokens: int = 0
    """By the server's own count; where it gave none, the events with content."""
    error: str = ""
    """What kind of failure it ended in: few values; empty for a good end."""

    @property
    def latency(self) -> float:
        """End to end."""
        return self.end - self.due

    @property
    def ttft(self) -> float | None:
        """To the first content; None without a stream."""
        return self.moments[0] - self.due if self.moments else None

    @property
    def itl(self) -> tuple[float, ...]:
        """Between each two events with content."""
        return tuple(later - earlier for earlier, later in pairwise(self.moments))

    @property
    def tpot(self) -> float | None:
        """For each token after the first; None where there is no such token, or no stream."""
        if not self.moments or self.output_tokens < 2:
            return None
        return (self.moments[-1] - self.moments[0]) / (self.output_tokens - 1)
