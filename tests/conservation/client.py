"""One shot's client, and what it saw."""

import asyncio
import http.client
import json
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.conservation.shots import Shot

SMALL_BUFFER = 4096
"""Bytes that the kernel takes for a client that stalls, before its router has to keep them."""
SMALL_SEGMENT = 536
"""Bytes of a segment. The kernel on the router's side gives a connection room for some tens of segments, and those of
loopback are as large as an answer."""


@dataclass
class Sighting:
    """What a client saw of its answer, before it left or to the end."""

    left: bool = False
    """It went away by itself: nothing more is expected."""
    status: int = 0
    body: bytes = b""
    broken: str = ""
    """The connection broke, or the time was over."""
    events: list[Any] = field(default_factory=list)
    """Of a stream: the JSON of each event; "[DONE]" as it is."""


async def fire(session: aiohttp.ClientSession, url: str, model: str, shot: Shot, deadline: float) -> Sighting:
    """Sends the shot's request and behaves as it says. `deadline` in seconds is for what must end by itself."""
    sighting = Sighting()
    await asyncio.sleep(shot.at)
    try:
        async with asyncio.timeout(deadline):
            await _converse(session, url, model, shot, sighting)
    except TimeoutError:
        sighting.broken = f"no end after {deadline} s"
    except aiohttp.ClientError as error:
        sighting.broken = repr(error)
    return sighting


async def stall(url: str, model: str, shot: Shot, cut_off: Callable[[], Awaitable[None]], deadline: float) -> Sighting:
    """Sends the shot's request, reads nothing until `cut_off` returns, and then what there is.

    `deadline` in seconds is for the reading.
    """
    await asyncio.sleep(shot.at)
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port)
    connection.sock = sock = socket.socket()
    with closing(connection):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT)
        sock.settimeout(deadline)
        await asyncio.to_thread(sock.connect, (target.hostname, target.port))
        body = json.dumps(shot.ask.body(model))
        connection.request("POST", shot.ask.path, body, {"content-type": "application/json"})
        await cut_off()
        return await asyncio.to_thread(_read, connection)


def _read(connection: http.client.HTTPConnection) -> Sighting:
    sighting = Sighting()
    try:
        with connection.getresponse() as response:
            sighting.status = response.status
            body = response.read()
    except (OSError, http.client.HTTPException) as error:
        sighting.broken = repr(error)
        return sighting
    if response.headers.get_content_type() == "text/event-stream":
        sighting.events = list(_events(body.splitlines()))
    else:
        sighting.body = body
    return sighting


async def _converse(session: aiohttp.ClientSession, url: str, model: str, shot: Shot, sighting: Sighting) -> None:
    patience = {"leave_at_once": 0.001, "leave_before_first_byte": shot.patience}.get(shot.behaviour)
    try:
        async with (
            asyncio.timeout(patience),
            session.post(url + shot.ask.path, json=shot.ask.body(model)) as response,
        ):
            sighting.status = response.status
            if response.content_type != "text/event-stream":
                sighting.body = await response.read()
                return
            async for line in response.content:
                sighting.events += _events([line])
                if shot.behaviour == "leave_midway" and shot.events <= len(sighting.events) and not _whole(sighting):
                    sighting.left = True
                    response.close()
                    return
                if shot.behaviour == "dawdle":
                    await asyncio.sleep(min(shot.patience, 0.005))
    except TimeoutError:
        if patience is None:
            raise
        # An answer that has come is judged, however little patience there was left.
        sighting.left = not _whole(sighting)


def _whole(sighting: Sighting) -> bool:
    return bool(sighting.body) or sighting.events[-1:] == ["[DONE]"]


def _events(lines: Iterable[bytes]) -> Iterable[Any]:
    for line in lines:
        if line.startswith(b"data: "):
            data = line[6:].strip()
            yield "[DONE]" if data == b"[DONE]" else json.loads(data)
