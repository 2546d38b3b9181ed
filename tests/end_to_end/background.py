"""A load in a thread of its own, for tests whose main thread has other things to do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.cluster import Cluster
from tests.end_to_end.load import ANSWER_SECONDS, Load, loaded


class BackgroundLoad:
    """A load that goes on by itself."""

    def __init__(self, load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self._load = load
        self._loop = loop

    @property
    def faults(self) -> list[str]:
        return self._load.faults

    def grows(self, by: int) -> None:
        """Waits for so many more answers."""
        asyncio.run_coroutine_threadsafe(self._load.grows(by), self._loop).result(ANSWER_SECONDS)

    def answered_by(self, *seeds: int) -> None:
        """From now on answers of these engines are right."""
        self._load.seeds = frozenset(seeds)


@contextmanager
def background_load(
    cluster: Cluster, url: str, model: str, *, clients: int, seeds: tuple[int, ...] = (0,)
) -> Iterator[BackgroundLoad]:
    """So many clients on a model while the block lasts; see `loaded`."""
    begun, end = threading.Event(), asyncio.Event()
    found: list[BackgroundLoad] = []

    async def run() -> None:
        async with loaded(url, model, clients=clients, seeds=seeds) as load:
            found.append(BackgroundLoad(load, asyncio.get_running_loop()))
            begun.set()
            await end.wait()

    def work() -> None:
        try:
            with cluster.entered():
                asyncio.run(run())
        finally:
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    try:
        (load,) = found
        yield load
    finally:
        for load in found:
            load._loop.call_soon_threadsafe(end.set)
        thread.join()
