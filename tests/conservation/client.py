"""One shot's client, and what it saw."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.conservation.shots import Shot


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


async def _converse(session: aiohttp.ClientSession, url: str, model: str, shot: Shot, sighting: Sighting) -> None:
    request = session.post(url + shot.ask.path, json=shot.ask.body(model))
    if shot.behaviour in ("leave_at_once", "leave_before_first_byte"):
        patience = 0.001 if shot.behaviour == "leave_at_once" else shot.patience
        try:
            async with asyncio.timeout(patience), request as response:
                await response.read()
        except TimeoutError:
            pass
        sighting.left = True
        return
    async with request as response:
        sighting.status = response.status
        if response.content_type != "text/event-stream":
            sighting.body = await response.read()
            return
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            sighting.events.append("[DONE]" if data == b"[DONE]" else json.loads(data))
            if shot.behaviour == "leave_midway" and len(sighting.events) >= shot.events:
                sighting.left = True
                response.close()
                return
            if shot.behaviour == "dawdle":
                await asyncio.sleep(min(shot.patience, 0.005))
