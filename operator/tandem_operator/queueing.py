"""One queue of keys for all workers: a key is worked on by one worker at a time, and waits in the queue once.

What happens to a key while it is worked on puts it in once more afterwards, so no change is missed and none is handled
twice side by side. The same shape as the work queues of Kubernetes' own controllers.
"""

import asyncio
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 60.0


class Closed(Exception):
    """The queue hands out nothing any more."""


class KeyedQueue(Generic[K]):
    """Keys that wait to be worked on, now or after some time. None is handed out before `open`."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[K | None] = asyncio.Queue()
        self._queued: set[K] = set()
        self._working: set[K] = set()
        self._again: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._opened = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        """Keys that could be worked on at this moment."""
        return len(self._queued)

    def add(self, key: K) -> None:
        """Has `key` worked on as soon as a worker is free."""
        if self._closed:
            return
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Has `key` worked on after some time; of several times the earliest counts."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        if (known := self._later.get(key)) is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Has a key that failed worked on again, later after each failure in a row. Returns the seconds until then."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        seconds = max(at_least, min(FIRST_BACKOFF * 2.0 ** min(failures - 1, 16), LONGEST_BACKOFF))
        self.add_after(key, seconds)
        return seconds

    def succeeded(self, key: K) -> None:
        """The next failure of `key` is the first in a row."""
        self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """There is nothing to do for `key` later on."""
        self._failures.pop(key, None)
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()

    async def get(self) -> K:
        """The next key, which has to be given to `done`.

        Raises:
            Closed: there won't be one.
        """
        await self._opened.wait()
        key = await self._ready.get()
        if key is None or self._closed:
            self._ready.put_nowait(None)  # for the other workers
            raise Closed
        self._queued.discard(key)
        self._working.add(key)
        return key

    def done(self, key: K) -> None:
        """Nobody works on `key` any more."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def open(self) -> None:
        """Begins to hand out keys: all is known that decisions are made of."""
        self._opened.set()

    def close(self) -> None:
        """Hands out nothing any more. Who works on a key may finish."""
        self._opened.set()
        self._closed = True
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self._ready.put_nowait(None)

    def _due(self, key: K) -> None:
        self._later.pop(key, None)
        self.add(key)
