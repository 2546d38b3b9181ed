"""Fetches a prompt's KV from its holder into memory that the caller gives.

Blocking, for threads: the vLLM connector loads in threads of the engine's process, the virtual engine in a pool. How
many run at once is the caller's to bound, by its number of threads.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final
from weakref import WeakSet

import grpc
from hpack import HPACKError
from tandem_proto.channels import Tls
from tandem_proto.http2.calls import PREFIX, CallFailed, message_size
from tandem_proto.http2.frames import ProtocolError
from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import KvGone
from tandem_engine.kv.assembly import Assembly, FetchFailed, FetchReason
from tandem_engine.kv.server import SERVICE
from tandem_engine.kv.stream import Stream

_REASONS: Final[dict[grpc.StatusCode, FetchReason]] = {
    grpc.StatusCode.NOT_FOUND: "gone",
    grpc.StatusCode.FAILED_PRECONDITION: "refused",
    grpc.StatusCode.INVALID_ARGUMENT: "refused",
    grpc.StatusCode.PERMISSION_DENIED: "refused",
    grpc.StatusCode.UNAUTHENTICATED: "refused",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "busy",
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
    grpc.StatusCode.CANCELLED: "cut",
}


_FAILURES: Final = (OSError, ValueError, CallFailed, ProtocolError, HPACKError)
"""What `Stream` raises."""

LARGEST_MESSAGE: Final = 4 * 2**20
"""Bytes, as grpcio's clients have it."""

BUSY_PAUSE: Final = 0.02
"""Seconds before a busy holder is asked again."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to fetch from where: one rank of a holder, and which of its blocks and heads."""

    address: str
    lease: bytes
    content_hash: bytes
    first_block: int = 0
    head_start: int = 0
    head_count: int = 0
    """0: all that the rank has."""


class Fetch:
    """One fetch, not begun: `run` it in one thread, `cancel` it from any other. Made by `KvClient.fetch`."""

    def __init__(
        self,
        source: Source,
        into: Sequence[memoryview],
        timeout: float,
        tls: Tls | None,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._assembly = Assembly(into)
        self._timeout = timeout
        self._tls = tls
        self._clock = clock
        self._stream: Stream | None = None
        self._cancelled = threading.Event()
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Ends the fetch, begun or not, and lets only a connection attempt under way come to its end.

        `run` raises FetchFailed("cancelled").
        """
        with self._lock:
            self._cancelled.set()
            if self._stream is not None:
                self._stream.cancel()

    def run(self) -> int:
        """Fetches all layers and returns the bytes that arrived. A holder that is busy is asked again, within the time.

        Raises:
            FetchFailed: with the reason; what is in the buffers must not be used then.
        """
        deadline = self._clock() + self._timeout
        while True:
            try:
                return self._ask(max(0.0, deadline - self._clock()))
            except FetchFailed as failure:
                if failure.reason != "busy" or self._clock() + BUSY_PAUSE >= deadline:
                    raise
            self._cancelled.wait(BUSY_PAUSE)

    def _ask(self, timeout: float) -> int:
        if self._cancelled.is_set():
            raise FetchFailed("cancelled", "cancelled before it began")
        try:
            stream = Stream(self._source.address, self._tls, timeout, self._clock)
        except (OSError, ValueError) as error:
            raise FetchFailed("unreachable", f"no connection to the holder: {error}") from error
        with stream:
            with self._lock:
                if self._cancelled.is_set():
                    raise FetchFailed("cancelled", "cancelled")
                self._stream = stream
            try:
                answer = stream.ask(f"/{SERVICE}/Fetch", self._request())
                while prefix := answer.read(PREFIX):
                    self._assembly.take(answer, message_size(prefix, LARGEST_MESSAGE))
                return self._assembly.finish()
            except _FAILURES as error:
                raise self._failure(error) from error
            finally:
                with self._lock:
                    self._stream = None

    def _request(self) -> bytes:
        source = self._source
        request = kv_pb2.FetchRequest(
            lease=source.lease,
            content_hash=source.content_hash,
            first_block=source.first_block,
            head_start=source.head_start,
            head_count=source.head_count,
        )
        return request.SerializeToString()

    def _failure(self, error: Exception) -> FetchFailed:
        if self._cancelled.is_set():
            return FetchFailed("cancelled", "cancelled")
        # A holder that dies in the middle was reachable: what its reader sees is a cut stream.
        reason: FetchReason = "cut" if self._assembly.received else "unreachable"
        if isinstance(error, TimeoutError):
            reason = "timeout"
        elif isinstance(error, CallFailed):
            reason = _REASONS.get(error.code, reason)
        return FetchFailed(reason, f"the holder's stream ended: {error}")


class KvClient:
    """Fetches from holders, and says of leases what there is to say. A context manager: leaving ends the fetches."""

    def __init__(self, tls: Tls | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._fetches: WeakSet[Fetch] = WeakSet()

    def __enter__(self) -> "KvClient":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            fetches = list(self._fetches)
        for fetch in fetches:
            fetch.cancel()

    def fetch(self, source: Source, into: Sequence[memoryview], timeout: float) -> Fetch:
        """A fetch to run.

        Args:
            source: what to fetch from where.
            into: for each layer writable bytes, of the very length of what is wanted.
            timeout: seconds, from when it runs.
        """
        fetch = Fetch(source, into, timeout, self._tls, self._clock)
        with self._lock:
            self._fetches.add(fetch)
        return fetch

    def renew(self, address: str, lease: bytes, *, ttl: float = 0, next_lease: bytes = b"", timeout: float) -> float:
        """Begins the lease's time anew, hands it on to `next_lease` where given, and returns its seconds.

        Raises:
            KvGone: the holder does not hold it any more.
            ConnectionError: the holder did not answer in time, or can't be reached.
        """
        request = kv_pb2.RenewRequest(lease=lease, ttl_ms=round(ttl * 1000), next_lease=next_lease)
        try:
            answer = self._call(address, "Renew", request.SerializeToString(), timeout)
        except _FAILURES as error:
            if isinstance(error, CallFailed) and error.code == grpc.StatusCode.NOT_FOUND:
                raise KvGone("the KV lease is not held any more") from error
            raise ConnectionError("the holder of the KV lease does not answer") from error
        return kv_pb2.RenewResponse.FromString(answer).ttl_ms / 1000

    def release(self, address: str, lease: bytes, *, timeout: float) -> bool:
        """Ends a lease; False where it was gone, or where its holder can't be reached (it expires by itself then)."""
        try:
            answer = self._call(address, "Release", kv_pb2.ReleaseRequest(lease=lease).SerializeToString(), timeout)
        except _FAILURES:
            return False
        return kv_pb2.ReleaseResponse.FromString(answer).released

    def _call(self, address: str, method: str, request: bytes, timeout: float) -> bytes:
        with Stream(address, self._tls, timeout, self._clock) as stream:
            answer = stream.ask(f"/{SERVICE}/{method}", request)
            message = answer.read(message_size(answer.read(PREFIX), LARGEST_MESSAGE))
            answer.read()  # only its end says that it succeeded
            return message
