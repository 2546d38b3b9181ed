"""Stormers, with what they need for the length of a test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest

from tests.conservation.counters import Observer
from tests.conservation.platform import Platform
from tests.conservation.storming import Stormer

Storming = Callable[[Platform], AbstractAsyncContextManager[Stormer]]


@pytest.fixture
def storming() -> Storming:
    """Makes a stormer for a platform that is up."""

    @asynccontextmanager
    async def make(platform: Platform) -> AsyncIterator[Stormer]:
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            Observer(session, platform.url, platform.workers) as observer,
        ):
            yield Stormer(platform, session, observer)

    return make
