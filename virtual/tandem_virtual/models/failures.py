"""How an answer fails: as values, which a server carries out (requirements EI-01 to EI-05)."""

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """When it fails."""

    PRE_CONTENT = "pre-content"
    """Before the first byte: an error response. Clients and failover layers may try again."""
    MID_STREAM = "mid-stream"
    """After some events of a stream: nobody may try again unseen."""


class Ending(StrEnum):
    """How a stream fails that has begun. None of them lets it come to its terminal events."""

    CLOSE = "close"
    """The connection is cut."""
    EVENT = "event"
    """An error frame, in the surface's shape."""
    CLEAN = "clean"
    """The body ends as if all were well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure. `type` and `message` are the error object's."""

    stage: Stage = Stage.PRE_CONTENT
    status: int = 500
    """Of the response where there is no stream to fail in."""
    type: str = ""
    """Empty: the one that goes with the status."""
    message: str = "this virtual model fails on purpose"
    ending: Ending = Ending.CLOSE
    after: int = 1
    """Chunks of content that a failing stream has."""
    pause: float = 0.0
    """Seconds of silence before a stream fails: what a client's read timeout sees."""
    category: str = ""
    """What kind of trouble this rehearses."""
    retryable: bool = False
    """Whether a client does well to try again."""
    severity: str = "error"
    """"warning" where trying again helps, "error" where it does not, "critical" where a service is down."""
