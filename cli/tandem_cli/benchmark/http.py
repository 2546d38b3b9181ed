"""HTTP/1.1 connections that hand an answer's bytes over where they arrive, in the parser's caller.

A client whose answers are streams to be read wakes a task for each piece of each answer. With thousands of pieces a
second that is most of what it costs, and next to the server that it measures, what it costs is missing there. llhttp
reads the protocol, by httptools; `bench/README.md` has the figures.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self, cast
from urllib.parse import quote, urlsplit

import httptools

CONNECT_SECONDS: Final = 10.0
_FRAMED: Final = (b"content-length", b"transfer-encoding")
_INTERIM: Final = 200
"""Statuses below it announce an answer, and are none."""

Receiver = Callable[[bytes], None]
"""Takes what one read brought of an answer's body."""


def head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """A request's head, to which further lines may be added, and an empty one.

    Args:
        method: in capitals.
        url: with scheme and host.
        headers: without what has to say how long a body is.
    """
    parts = urlsplit(url)
    whole = {"Host": parts.netloc.rpartition("@")[2], "Accept-Encoding": "identity", **headers}
    lines = [f"{method} {quote(parts.path, '/%')} HTTP/1.1", *(f"{name}: {value}" for name, value in whole.items())]
    return "".join(f"{line}\r\n" for line in lines).encode()


class NotConnected(Exception):
    """A server's port can't be reached."""


class Connection(asyncio.Protocol):
    """A connection that stays open: one request at a time, each answered before the next is sent."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # the parser looks for its callbacks when it is made
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._framed = False
        self._whole = False
        self._kept = False
        self._receive: Receiver = lambda _: None
        self._answered: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def reusable(self) -> bool:
        """It can take another request."""
        assert self._transport
        return self._kept and not self._transport.is_closing()

    async def send(self, request: bytes, receive: Receiver) -> int:
        """Sends a request and returns its answer's status, when all of its body has been received.

        Raises:
            ConnectionError: the connection, or the protocol, broke.
        """
        assert self._transport
        self._status, self._framed, self._whole, self._kept, self._receive = 0, False, False, False, receive
        self._answered = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        """At once: what is still to come is lost."""
        if self._transport:
            self._transport.abort()

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(ConnectionAbortedError(str(error)))
            self.close()
            return
        if self._pieces:
            self._receive(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
            self._pieces.clear()
        if self._whole:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        # An answer of unknown length ends with its connection.
        whole = exc is None and self._status and not self._framed
        self._end(None if whole else ConnectionResetError())

    def _end(self, error: ConnectionError | None = None) -> None:
        if not self._answered or self._answered.done():
            return
        if error is None:
            self._answered.set_result(self._status)
        else:
            self._answered.set_exception(error)

    # ---- the parser's side

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._framed = self._framed or name.lower() in _FRAMED

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._status = status if status >= _INTERIM else 0

    def on_message_complete(self) -> None:
        self._whole = bool(self._status)
        self._kept = self._whole and self._parser.should_keep_alive()


class Server:
    """The connections to one server: as many as there are requests under way, kept for those to come.

    Args:
        url: where it is; a path is not looked at. Certificates are checked against those that the system trusts.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One for the block, which goes back where it is `reusable` then.

        Raises:
            NotConnected: there is no way to the server.
            TimeoutError: it did not accept in time.
        """
        connection = await self._connection()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection, self._host, self._port, ssl=self._tls
                )
        except TimeoutError:  # an OSError, too
            raise
        except OSError as error:
            raise NotConnected(str(error)) from error
        return connection
