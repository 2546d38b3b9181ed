"""One request as a trial of an experiment: which version it was drawn for, and what became of it."""

from dataclasses import dataclass

from tandem_router.experiments.counting import Counting, Seen
from tandem_router.ids import Origin
from tandem_router.telemetry.record import Record


@dataclass(frozen=True, slots=True)
class Trial:
    """Drawn when the version was chosen; counted when the request is over."""

    counting: Counting
    weight: int
    """The challenger's percent when it was drawn."""
    challenger: bool
    key: int | None
    """The split's hash of what it was drawn by; None where nobody asks: it has no sticky key, and no score counts."""
    sticky: bool
    """It was drawn by a key that others may share."""

    def origin(self, version: Origin) -> Origin:
        """What its response id says: enough to count a score that comes back for it."""
        key = f"{self.key:016x}" if self.key is not None and self.counting.scored else ""
        return Origin(version.service, version.version, self.counting.id, self.weight, key)

    def count(self, record: Record, seconds: float) -> None:
        self.counting.count(self.weight, self.challenger, self.key if self.sticky else None, seen(record, seconds))


def seen(record: Record, seconds: float) -> Seen:
    """What became of a request. One whose client went away says nothing but how soon it began."""
    whole = not record.left and not record.failed
    tpot = None
    if whole and record.ttft is not None and record.completion_tokens > 1:
        tpot = (seconds - record.ttft) / (record.completion_tokens - 1)
    return Seen(
        error=None if record.left else record.failed,
        ttft=record.ttft,
        tpot=tpot,
        tokens=record.completion_tokens if whole and record.completion_tokens else None,
    )
