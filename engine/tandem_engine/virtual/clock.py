"""The engine's time, handed in: real, or held by a test."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotone seconds, a wall clock for answers' `created`, and a way to let time pass."""

    def time(self) -> float: ...

    def wall(self) -> float:
        """Seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Always lets other tasks run, with 0 seconds too."""


class RealClock:
    """The machine's."""

    def time(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
