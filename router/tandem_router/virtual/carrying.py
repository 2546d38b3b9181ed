"""Carrying out what a virtual model decided, on an ASGI connection.

Waits end when the client goes. A connection that is to be cut is closed under the server, so that no proper end of the
response gets out; where the server is not the router's own, an exception has the same effect.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tandem_api.openai.answers import JSON_TYPE, STREAM_TYPE
from tandem_virtual.outcomes import Dropped, Lost, Streamed, Whole, stream_of

from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import SEND_SECONDS, Message, Receive, Scope, Send
from tandem_router.frontends.direct import EXTENSION
from tandem_router.frontends.shapes import Shape

Work = Callable[[], Awaitable[None]]

_STREAM_HEADERS: Final = (
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
)


class Cut(ConnectionError):
    """The connection is cut on purpose."""


async def until_gone(work: Work, receive: Receive) -> None:
    """Does work for a client, and gives it up when the client goes."""

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(_run(work))
        listening = tasks.create_task(listen())
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        listening.cancel()


async def _run(work: Work) -> None:
    await work()


def replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then whatever comes after it."""
    held: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return held.pop() if held else await receive()

    return replay


async def carry_out(outcome: Whole | Streamed | Dropped, scope: Scope, send: Send) -> None:
    """Sends a response, or cuts the connection, as it does with a client that does not read."""
    try:
        match outcome:
            case Whole():
                await asyncio.sleep(outcome.delay)
                await respond(send, outcome)
            case Dropped():
                await asyncio.sleep(outcome.delay)
                cut(scope)
            case Streamed():
                await _stream(outcome, scope, send)
    except TimeoutError:
        cut(scope)


class Carried:
    """One outcome on a connection, which a router that ends can stop.

    Args:
        shape: how failures are written.
    """

    def __init__(self, shape: Shape, scope: Scope, receive: Receive, send: Send) -> None:
        self._shape = shape
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = False
        self._limit: asyncio.Timeout | None = None
        self._failure: CallFailed | None = None

    async def run(self, outcome: Whole | Streamed | Dropped) -> None:
        """Carries it out; gives it up when the client goes."""
        await until_gone(lambda: self._run(outcome), self._receive)

    def stop(self, failure: CallFailed) -> None:
        """Ends the response with `failure`."""
        self._failure = self._failure or failure
        if self._limit is not None:
            self._limit.reschedule(0)

    async def _run(self, outcome: Whole | Streamed | Dropped) -> None:
        try:
            async with asyncio.timeout(None) as self._limit:
                await carry_out(outcome, self._scope, self._noting)
        except TimeoutError:
            assert self._failure is not None
            await self._fail(self._failure)
        finally:
            self._limit = None

    async def _noting(self, message: Message) -> None:
        self._began = True
        await self._send(message)

    async def _fail(self, failure: CallFailed) -> None:
        try:
            if self._began:
                await _send(self._send, {"type": "http.response.body", "body": self._shape.event(failure, "")})
            else:
                status, body = self._shape.body(failure, "")
                await respond(self._send, Whole(status=status, body=body))
        except TimeoutError:
            cut(self._scope)


async def respond(send: Send, whole: Whole) -> None:
    """Sends a whole response at once."""
    headers = [
        (b"content-type", JSON_TYPE.encode()),
        (b"content-length", str(len(whole.body)).encode()),
        *((name.encode(), value.encode()) for name, value in whole.headers),
    ]
    await _send(send, {"type": "http.response.start", "status": whole.status, "headers": headers})
    await _send(send, {"type": "http.response.body", "body": whole.body})


async def _stream(streamed: Streamed, scope: Scope, send: Send) -> None:
    await _send(send, {"type": "http.response.start", "status": 200, "headers": list(_STREAM_HEADERS)})
    try:
        async for chunk in stream_of(streamed, asyncio.sleep):
            await _send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
    except Lost:
        cut(scope)
        return
    await _send(send, {"type": "http.response.body", "body": b""})


async def _send(send: Send, message: dict[str, object]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)


def cut(scope: Scope) -> None:
    """Closes the connection in the midst of a response, or before it.

    Raises:
        Cut: the server is not the router's own, and does it when it sees this.
    """
    direct = scope.get("extensions", {}).get(EXTENSION)
    if direct is None:
        raise Cut
    protocol, cycle = direct
    cycle.disconnected = True
    protocol.transport.close()
