"""`/admin/*`: handed on to the registry, and its answer handed back.

Bodies pass in pieces, as they come, in both directions: an upload of ten gigabytes needs no memory here, and neither
side is read faster than the other takes it. What a request says (keys, ranges, preconditions) is the registry's to
judge, so all headers pass but those of the one connection. Nothing of serving waits for the registry.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Container, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tandem_api.openai.errors import error_body

from tandem_router.frontends.clients import Headers, Receive, Scope, Send

if TYPE_CHECKING:
    import aiohttp

ADMIN: Final = "/admin/"
"""How paths of the registry begin."""

IDLE_SECONDS: Final = 60.0
"""In which a byte has to move, or an answer to begin."""
IDLE_MOVING_FILES_SECONDS: Final = 900.0
"""The same where files move."""
CONNECT_SECONDS: Final = 5.0

_FILES: Final = re.compile("/admin/v1/repository/(uploads|files)/")
_OF_CONNECTION: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
"""Headers that hold between two neighbours only (RFC 9110, 7.6.1)."""
_OURS: Final = frozenset((b"host", b"expect"))
"""Of requests: the client's connection has seen to them."""
_SERVERS: Final = frozenset((b"date", b"server"))
"""Of answers: our server gives them itself."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer of the router's own, in the registry's shape."""

    status: int
    body: bytes
    headers: Headers = ()


_NO_REGISTRY: Final = _Refusal(
    404, error_body("this router has no registry: give it one by --registry-url", code="no_registry")
)
_AWAY: Final = _Refusal(
    503,
    error_body(
        "the registry does not answer: try again in a moment; what is served goes on",
        type="server_error",
        code="registry_unavailable",
    ),
    ((b"retry-after", b"5"),),
)


class Relay(AbstractAsyncContextManager["Relay"]):
    """ASGI application that asks the registry. Entered, it may be called.

    Args:
        url: the registry's base; empty: there is none.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._url:
            await _refuse(send, _NO_REGISTRY)
            return
        body = _Body(scope, receive)
        async with asyncio.TaskGroup() as tasks:
            relaying = tasks.create_task(self._relay(scope, body, send))
            listening = tasks.create_task(body.until_gone())
            await asyncio.wait({relaying, listening}, return_when=asyncio.FIRST_COMPLETED)
            relaying.cancel()
            listening.cancel()

    async def _relay(self, scope: Scope, body: "_Body", send: Send) -> None:
        session = await self._opened()
        import aiohttp
        from yarl import URL

        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        url = URL(f"{self._url}{path}{'?' if query else ''}{query}", encoded=True)
        patience = IDLE_MOVING_FILES_SECONDS if _FILES.match(path) else IDLE_SECONDS
        began = False
        try:
            async with asyncio.timeout(patience) as deadline:

                def moved() -> None:
                    deadline.reschedule(asyncio.get_running_loop().time() + patience)

                asking = session.request(
                    scope["method"],
                    url,
                    headers=[
                        (name.decode("latin-1"), value.decode("latin-1"))
                        for name, value in _passing(scope["headers"], _OURS)
                    ],
                    data=body.pieces(moved) if body.given else None,
                    allow_redirects=False,
                )
                async with asking as answer:
                    headers = list(_passing(answer.raw_headers, _SERVERS))
                    began = True
                    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                    async for piece in answer.content.iter_any():
                        moved()
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("the registry failed at %s: %s", path, str(error) or type(error).__name__)
            # An answer that has begun can't become another: left without its end, the server cuts the connection.
            if not began:
                await _refuse(send, _AWAY)

    async def _opened(self) -> "aiohttp.ClientSession":
        if self._session is None:
            # A tenth of a second, for a router that may never be asked: streams and its start don't wait for it.
            await asyncio.to_thread(import_module, "aiohttp")
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                # A connection for each request: none is found closed, and replicas of the registry share the load.
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            )
        return self._session


class _Body:
    """A request's body, and after it the client's going."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        self.given = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self._receive = receive
        self._gone = False
        self._over = asyncio.Event()
        if not self.given:
            self._over.set()

    async def pieces(self, moved: Callable[[], None]) -> AsyncIterator[bytes]:
        """What comes, as it comes; `moved` is told of each piece."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                self._over.set()
                # Whoever reads this is about to be cancelled: an end would look like the body's.
                await asyncio.get_running_loop().create_future()
            moved()
            more = message.get("more_body", False)
            if piece := message.get("body"):
                yield piece
        self._over.set()

    async def until_gone(self) -> None:
        """Returns when the client has closed the connection."""
        await self._over.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"


def _passing(headers: Headers, dropped: Container[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """All but `dropped` and those of the connection, which may name more of them."""
    named = {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
    for header, value in headers:
        name = header.lower()
        if name not in dropped and name not in _OF_CONNECTION and name not in named:
            yield name, value


async def _refuse(send: Send, refusal: _Refusal) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(refusal.body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*headers, *refusal.headers]})
    await send({"type": "http.response.body", "body": refusal.body})
