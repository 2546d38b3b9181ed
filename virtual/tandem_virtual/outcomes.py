"""What is to happen at a client's connection: values that a server carries out, and nothing else decides.

`stream_of` and `Lost` carry them out for any server that can write bytes, cut a connection, and wait.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tandem_api.replies import Reply

Sleep = Callable[[float], Awaitable[object]]


class Lost(Exception):
    """The connection is to be cut, without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One response, after a while."""

    status: int = 200
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Beside content-type: application/json."""
    delay: float = 0.0
    """Seconds."""
    reply: Reply | None = None
    """What is said, for who counts; None: nothing, or a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """A stream of events: status 200, text/event-stream."""

    opening: bytes
    chunks: tuple[bytes, ...]
    chunk_delay: float
    """Seconds before each chunk."""
    delay: float = 0.0
    """Seconds before the opening."""
    pause: float = 0.0
    """Seconds between the last chunk and what follows."""
    closing: bytes = b""
    """Terminal events, or an error event, or nothing."""
    lost: bool = False
    """The connection is cut in the place of `closing`."""
    failed: str = ""
    """The message of the failure that `closing` tells."""
    reply: Reply | None = None
    """What is said, for who counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """No response at all: the connection is cut after a while."""

    delay: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """Another model is to answer this request: its response, errors and all, is the answer."""

    surface: str
    """Name of the `tandem_api.surfaces.Surface` that the body is of."""
    model: str
    body: bytes
    stream: bool
    via: tuple[str, ...]
    """The proxies that it came by. Who forwards it once more tells them, so that circles are found."""
    delay: float = 0.0


Outcome = Whole | Streamed | Dropped | Forwarded


async def stream_of(streamed: Streamed, sleep: Sleep) -> AsyncIterator[bytes]:
    """A stream's bytes, each when its time has come: first it waits, then it gives (requirements VM-42).

    Raises:
        Lost: after the last bytes, where the connection is to be cut.
    """
    if streamed.delay:
        await sleep(streamed.delay)
    yield streamed.opening
    for chunk in streamed.chunks:
        await sleep(streamed.chunk_delay)
        yield chunk
    if streamed.pause:
        await sleep(streamed.pause)
    if streamed.lost:
        raise Lost
    if streamed.closing:
        yield streamed.closing
