"""Tells probes and routers how the worker is: at once when that flips, else ten times a second what has changed."""

import asyncio
from contextlib import suppress

from tandem_engine.worker.health import Health
from tandem_engine.worker.state import WorkerState

LOAD_SECONDS = 0.1
HEARTBEAT_SECONDS = 5.0
"""A load that does not change is said again after this time."""


async def announce(state: WorkerState, health: Health) -> None:
    """Runs until it is cancelled."""
    said, said_at, facts = None, 0.0, None
    while True:
        await health.show(ready=state.ready, alive=state.alive)
        if state.facts is not facts:
            facts = state.facts
            for session in state.sessions:
                session.greet()
        load, now = state.look().load, state.clock()
        flipped = said is None or (said.ready, said.draining) != (load.ready, load.draining)
        if flipped or load != said or now - said_at >= HEARTBEAT_SECONDS:
            said, said_at = load, now
            for session in state.sessions:
                session.load(load, urgent=flipped)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOAD_SECONDS):
                await state.changed.wait()
        state.changed.clear()
