"""Writing to a client from a worker's frame, without a task or a queue between them.

A subclass of uvicorn's protocol puts itself into `scope["extensions"]`, where an inference endpoint finds it. It
writes head, chunked framing and end to the transport itself and leaves uvicorn's request cycle in the state that the
cycle's own `send` would have left: so keep-alive, pipelining and graceful shutdown work as ever. Flow control stays:
the transport says when a client does not keep up, and one that leaves more than the limit unread is cut off.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tandem_router.frontends.clients import EVENT_END, LINGER_SECONDS, Gone, Headers, Scope, whole_events

EXTENSION: Final = "tandem.direct"


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, whose connections can be written to directly."""

    active: "DirectClient | None" = None
    """Requests of one connection are answered one after another: there is at most one."""
    excused = False
    """Its client has not been told that the router is about to end: its next request is answered, too."""
    _linger: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # The cycle's task starts in a later turn of the loop, so it finds this in its scope.
        scope = cast("Scope", self.scope)
        scope.setdefault("extensions", {})[EXTENSION] = (self, self.cycle)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # uvicorn leaves it to run where the client reset the connection, and the two refer to each other.
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self.cycle = cast("RequestResponseCycle", None)
        if self._linger is not None:
            self._linger.cancel()
        if self.active is not None:
            self.active.lose()

    def part(self) -> None:
        """The router is about to take no more requests: closes at once, unless there is an answer under way."""
        self.excused = self.active is not None
        if not self.excused:
            self.shutdown()

    def linger(self) -> None:
        """Closes when what is written has been read, and soon in any case."""
        self.transport.close()
        self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def detach(scope: Scope) -> None:
    """The request is over: a scope that refers to itself would stay until the garbage collector comes by."""
    scope.get("extensions", {}).pop(EXTENSION, None)


def body_at_hand(cycle: RequestResponseCycle) -> bytes | None:
    """The request's body where it has come as a whole, as nearly all do: without a wait, and so without a deadline."""
    return None if cycle.more_body or cycle.disconnected else bytes(cycle.body)


class DirectClient:
    """One request's connection under the router's own server."""

    def __init__(
        self, protocol: DirectProtocol, cycle: RequestResponseCycle, limit: int, slow_end: Callable[[], bytes]
    ) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._transport: Any = protocol.transport
        self._limit = limit
        self._slow_end = slow_end
        self._chunked = cycle.scope["http_version"] == "1.1"
        self._held = bytearray()
        self._largest = 0
        self._gone: Gone | None = None
        self._open = True

    async def __aenter__(self) -> Self:
        self._protocol.active = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._protocol.active is self:
            self._protocol.active = None

    @property
    def began(self) -> bool:
        return bool(self._cycle.response_started)

    def watch(self, gone: Gone) -> None:
        self._gone = gone
        if self._cycle.disconnected or self._transport.is_closing():
            self.lose()

    def lose(self) -> None:
        """The connection is closed."""
        self._open = False
        self._cycle.disconnected = True
        gone, self._gone = self._gone, None
        if gone is not None:
            gone("closed")

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        if self._open:
            self._transport.write(self._head(status, headers, b"content-length: %d\r\n" % len(body)) + body)
            self._complete()

    def begin(self, status: int, headers: Headers, chunk: bytes) -> None:
        if self._open:
            # A client of HTTP/1.0 knows no chunks: there, the end of the connection is the end of the body.
            framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
            body = self._framed(self._whole(chunk))
            self._transport.write(self._head(status, headers, framing) + body)

    def write(self, chunk: bytes) -> None:
        if not self._open:
            return
        if self._held or chunk[-2:] != EVENT_END:
            chunk = self._whole(chunk)
            if not chunk:
                return
        if self._protocol.flow.write_paused and self._transport.get_write_buffer_size() > self._limit + self._largest:
            self._cut_off()
            return
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)

    def end(self) -> None:
        self._end(bytes(self._held))

    def fail(self, event: bytes) -> None:
        self._end(event)

    def _end(self, chunk: bytes) -> None:
        if self._open:
            self._transport.write(self._framed(chunk) + (b"0\r\n\r\n" if self._chunked else b""))
            self._complete()

    def _whole(self, piece: bytes) -> bytes:
        whole = whole_events(self._held, piece)
        # An event that is larger than the limit is no fault of a client's.
        self._largest = max(self._largest, len(whole))
        return whole

    def _framed(self, chunk: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked and chunk else chunk

    def _head(self, status: int, headers: Headers, framing: bytes) -> bytes:
        cycle = self._cycle
        cycle.response_started = True
        if cycle.waiting_for_100_continue:
            # The client may leave its body unsent: what comes next on the connection would be taken for it.
            cycle.waiting_for_100_continue = cycle.keep_alive = False
        lines = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
            if name == b"connection" and value == b"close":
                cycle.keep_alive = False
        if not cycle.keep_alive and (b"connection", b"close") not in headers:
            lines.append(b"connection: close\r\n")
        lines += (framing, b"\r\n")
        return b"".join(lines)

    def _complete(self) -> None:
        """What `RequestResponseCycle.send` does after the last of a body."""
        self._open = False
        self._gone = None
        self._protocol.active = None
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        cycle.on_response()

    def _cut_off(self) -> None:
        self._cycle.keep_alive = False
        gone, self._gone = self._gone, None
        self.fail(self._slow_end())
        self._protocol.linger()
        if gone is not None:
            gone("slow")
