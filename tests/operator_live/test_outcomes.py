"""How experiments ended, asked of a real registry and told to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from tandem_api.registry import key_digest
from tandem_operator.outcomes import Outcomes
from tandem_operator.planning.experiments.record import Record
from tandem_operator.settings import RegistrySettings
from tandem_operator.store import Key
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings

from tests.registry.house import Clock, listening

SERVICE: Key = ("ns", "llama")
SECRET = "service-key"
Asking = Callable[[], AbstractAsyncContextManager[tuple[Outcomes, Callable[[], Awaitable[object]]]]]


class Way:
    """The network to a registry, which may be down."""

    def __init__(self, registry: str) -> None:
        self.up = True
        self.asked = asyncio.Event()
        self._registry = registry
        self.url = ""

    async def relay(self, request: web.Request) -> web.Response:
        self.asked.set()
        if not self.up:
            return web.Response(status=503)
        async with httpx.AsyncClient(base_url=self._registry, timeout=None) as http:
            headers = {name: request.headers.get(name, "") for name in ("Authorization", "Content-Type")}
            answer = await http.request(request.method, request.path, content=await request.read(), headers=headers)
        return web.Response(status=answer.status_code, body=answer.content)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    url = database_url(f"sqlite:///{tmp_path}/registry.db")
    store = Database(url)
    migrate(store)
    store.close()
    keys = Keys(None, key_digest(SECRET))
    clock = Clock(datetime(2026, 3, 1, tzinfo=UTC))
    with listening(Settings(url, f"file://{tmp_path}/storage", keys), Surroundings(clock=clock)) as house:
        yield house.url


@pytest.fixture
async def way(registry: str) -> AsyncIterator[Way]:
    made = Way(registry)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.relay)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def asking(way: Way, tmp_path: Path) -> Asking:
    """An operator's outcomes, and something that waits for the next answer."""
    key = tmp_path / "key"
    key.write_text(f"{SECRET}\n")

    @asynccontextmanager
    async def start() -> AsyncIterator[tuple[Outcomes, Callable[[], Awaitable[object]]]]:
        answers: asyncio.Queue[Key] = asyncio.Queue()
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False, timeout=None) as http:
            outcomes = Outcomes(http, RegistrySettings(url=way.url, key_file=key), answers.put_nowait)
            task = asyncio.create_task(outcomes.run())
            try:
                yield outcomes, answers.get
            finally:
                task.cancel()

    return start


def ended(phase: str) -> Record:
    state = {"id": "e1", "champion": "v1", "challenger": "v2", "phase": phase, "since": 1.5}
    spec = {"champion": "v1", "challenger": "v2", "weight": 10, "decide": [{"metric": "errorRate"}]}
    return Record.model_validate({"id": "e1", "spec": spec, "revisions": ("one", "two"), "state": state})


async def test_an_end_that_was_told_is_known_to_an_operator_that_starts_later(asking: Asking) -> None:
    async with asking() as (outcomes, answered):
        outcomes.inquire(SERVICE, "e1")
        assert await answered() == SERVICE
        assert outcomes.known() == {"e1": "none"}
        outcomes.tell(SERVICE, ended("RolledBack"))
        await answered()
        assert outcomes.known() == {"e1": "RolledBack"}
    async with asking() as (outcomes, answered):
        assert outcomes.known() == {}
        outcomes.inquire(SERVICE, "e1")
        await answered()
        assert outcomes.known() == {"e1": "RolledBack"}


async def test_it_is_told_until_the_registry_is_there(asking: Asking, way: Way) -> None:
    way.up = False
    async with asking() as (outcomes, answered):
        outcomes.tell(SERVICE, ended("Promoted"))
        await way.asked.wait()
        assert outcomes.known() == {}
        way.up = True
        await answered()
        assert outcomes.known() == {"e1": "Promoted"}


async def test_it_is_asked_until_the_registry_is_there(asking: Asking, way: Way) -> None:
    way.up = False
    async with asking() as (outcomes, answered):
        outcomes.inquire(SERVICE, "e1")
        await way.asked.wait()
        assert outcomes.known() == {}
        way.up = True
        await answered()
        assert outcomes.known() == {"e1": "none"}


async def test_the_outcome_that_the_registry_keeps_stays(asking: Asking) -> None:
    async with asking() as (outcomes, answered):
        outcomes.tell(SERVICE, ended("RolledBack"))
        await answered()
    async with asking() as (outcomes, answered):
        outcomes.tell(SERVICE, ended("Promoted"))
        await answered()
        assert outcomes.known() == {"e1": "RolledBack"}
