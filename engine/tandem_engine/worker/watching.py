"""Whether the engine can answer, found out again and again.

A check that passes is the proof. One that does not come back in time proves nothing where the engine moves on, as in
a long prefill: its totals and counts change. Only an engine that neither answers nor moves is stuck.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from tandem_engine.engine import Engine
from tandem_engine.errors import EngineDead, Unavailable
from tandem_engine.worker.state import WorkerState

INTERVAL_SECONDS = 1.0
CHECK_SECONDS = 5.0
"""How long one check may take."""
STUCK_SECONDS = 60.0
"""How long an engine may neither answer nor move before the process should be restarted."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Verdict:
    """What is believed of an engine, from what was seen of it."""

    now: float
    ready: bool = False
    alive: bool = True
    why: str = "it starts"
    _last_sign: float = 0.0
    _progress: object = None

    def __post_init__(self) -> None:
        self._last_sign = self.now

    def passed(self, now: float, progress: object) -> None:
        self.ready, self.alive, self.why = True, True, ""
        self._last_sign, self._progress = now, progress

    def refused(self, now: float, progress: object, why: str) -> None:
        """The engine said that it can't answer: who says so is neither stuck nor dead."""
        self.ready, self.alive, self.why = False, True, why
        self._last_sign, self._progress = now, progress

    def failed(self, now: float, progress: object, why: str) -> None:
        """A check broke or did not come back. `progress` is anything that changes as the engine works."""
        if progress != self._progress:  # it works: what was believed of its answers stands
            self.alive, self._last_sign, self._progress = True, now, progress
        else:
            self.ready, self.alive, self.why = False, now - self._last_sign < STUCK_SECONDS, why

    def dead(self, why: str) -> None:
        """The engine will never answer again."""
        self.ready, self.alive, self.why = False, False, why


async def watch(state: WorkerState) -> None:
    """Keeps `state` at what the engine's checks say, until it is cancelled. The engine is entered."""
    verdict = Verdict(state.clock())
    while True:
        before = (verdict.ready, verdict.alive)
        await _check(state.engine, verdict, state.clock)
        state.engine_checked(ready=verdict.ready, alive=verdict.alive)
        if (verdict.ready, verdict.alive) != before:
            level = logging.INFO if verdict.ready else logging.ERROR
            text = "the engine can answer" if verdict.ready else f"the engine can't answer: {verdict.why}"
            log.log(level, text, extra={"alive": verdict.alive})
        await asyncio.sleep(INTERVAL_SECONDS)


async def _check(engine: Engine, verdict: Verdict, clock: Callable[[], float]) -> None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await engine.check()
    except TimeoutError:
        verdict.failed(clock(), _progress(engine), "it neither answers nor moves")
    except EngineDead as error:
        verdict.dead(error.message)
    except Unavailable as error:
        verdict.refused(clock(), _progress(engine), error.message)
    except Exception as error:  # a check that breaks proves as little as one that hangs
        verdict.failed(clock(), _progress(engine), f"its check broke: {error!r}")
    else:
        verdict.passed(clock(), _progress(engine))


def _progress(engine: Engine) -> object:
    return dict(engine.totals()), engine.load()
