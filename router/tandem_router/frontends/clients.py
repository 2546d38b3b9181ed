"""Where an answer goes: the client's connection, as one request sees it.

`Client` is the seam. The router's own server hands in connections that are written to straight from a worker's frame
(`tandem_router.frontends.direct`); under any other ASGI server, and in tests, `AsgiClient` does that through `send`.
Writing never waits: a client that leaves more than its limit unread is cut off, so that no one stalls the others.

What reaches a client of a stream are whole events. Workers cut large ones into pieces; these are held here until the
event is whole, so that a stream that fails in the midst of one still ends with an error event that can be read.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

Gone = Callable[[Literal["closed", "slow"]], None]
"""Told when nothing reaches the client any more: it closed the connection, or was cut off because it did not read."""

SEND_SECONDS: Final = 60.0
"""How long one `send` may take that waits for the client to read."""
LINGER_SECONDS: Final = 10.0
"""How long a client that was cut off may take to read the rest."""
EVENT_END: Final = b"\n\n"
"""JSON has no line breaks of its own, so nothing else in a stream looks like it."""


def whole_events(held: bytearray, piece: bytes) -> bytes:
    """What was `held` and `piece`, if that ends with an event; else nothing, and `held` has grown by `piece`."""
    held += piece
    if not held.endswith(EVENT_END):
        return b""
    whole = bytes(held)
    held.clear()
    return whole


class Client(AbstractAsyncContextManager["Client"], Protocol):
    """One request's connection. Inside its context it may be written to and notices when the client goes."""

    @property
    def began(self) -> bool:
        """The head of a response has been written: no other can follow."""

    def watch(self, gone: Gone) -> None:
        """Who is to be told, from then on, when the client goes. Told at once if it has gone already."""

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole response. `headers` without content-length."""

    def begin(self, status: int, headers: Headers, chunk: bytes) -> None:
        """The head of a stream of events and the first of its body."""

    def write(self, chunk: bytes) -> None:
        """More of a stream's body: events, or a piece of one. After the client has gone, nothing happens."""

    def end(self) -> None:
        """The stream is over, and well."""

    def fail(self, event: bytes) -> None:
        """Ends a stream with `event`, in the place of one that is not whole."""


class AsgiClient:
    """A client behind ASGI's `send`, which waits: writes gather until a task has sent what was before them."""

    def __init__(self, receive: Receive, send: Send, limit: int, slow_end: Callable[[], bytes]) -> None:
        self._receive = receive
        self._send = send
        self._limit = limit
        self._slow_end = slow_end
        self._messages: list[Message] = []
        self._unsent = 0
        self._held = bytearray()
        self._largest = 0
        self._wake = asyncio.Event()
        self._began = False
        self._over = False
        self._lost = False
        self._cut = False
        self._gone: Gone | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._listener = self._tasks.create_task(self._listen())
        self._sender = self._tasks.create_task(self._pump())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._over and not self._lost:
            await asyncio.wait([self._sender], timeout=LINGER_SECONDS if self._cut else None)
        self._sender.cancel()
        self._listener.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def began(self) -> bool:
        return self._began

    def watch(self, gone: Gone) -> None:
        self._gone = gone
        if self._lost:
            gone("closed")

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        self._head(status, [*headers, (b"content-length", str(len(body)).encode())])
        self._finish(body)

    def begin(self, status: int, headers: Headers, chunk: bytes) -> None:
        self._head(status, headers)
        self.write(chunk)

    def write(self, chunk: bytes) -> None:
        if self._over or self._lost:
            return
        if self._held or chunk[-2:] != EVENT_END:
            chunk = whole_events(self._held, chunk)
            # An event that is larger than the limit is no fault of a client's.
            self._largest = max(self._largest, len(chunk))
        if not chunk:
            return
        if self._unsent > self._limit + self._largest:
            self._finish(self._slow_end())
            self._leave("slow")
            return
        self._put({"type": "http.response.body", "body": chunk, "more_body": True}, len(chunk))

    def end(self) -> None:
        if not self._over:
            self._finish(bytes(self._held))

    def fail(self, event: bytes) -> None:
        if not self._over:
            self._finish(event)

    def _head(self, status: int, headers: Headers) -> None:
        self._began = True
        self._put({"type": "http.response.start", "status": status, "headers": list(headers)}, 0)

    def _finish(self, chunk: bytes) -> None:
        self._over = True
        self._put({"type": "http.response.body", "body": chunk, "more_body": False}, len(chunk))

    def _put(self, message: Message, size: int) -> None:
        self._messages.append(message)
        self._unsent += size
        self._wake.set()

    def _leave(self, why: Literal["closed", "slow"]) -> None:
        self._lost = self._lost or why == "closed"
        self._cut = self._cut or why == "slow"
        gone, self._gone = self._gone, None
        if gone is not None:
            gone(why)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave("closed")

    async def _pump(self) -> None:
        try:
            while not self._over or self._messages:
                await self._wake.wait()
                self._wake.clear()
                messages, self._messages = self._messages, []
                for message in messages:
                    async with asyncio.timeout(SEND_SECONDS):
                        await self._send(message)
                    self._unsent -= len(message.get("body", b""))
        except OSError:
            # A timeout is one, too: the client is as good as gone.
            self._leave("closed")
