"""The keys of a registry's store at routers: a real registry, which comes and goes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tandem_api.registry import KeySnapshot, key_digest
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings
from tandem_router.access.callers import Refused
from tandem_router.access.ring import KeyRing
from tandem_router.access.settings import AccessSettings

from tests.registry.house import House as Registry
from tests.registry.house import listening
from tests.router.house import House, answers, fake, house
from tests.router.test_keys import SERVICE, STATIC, bearer, key

ACCESS = AccessSettings(static=key_digest(STATIC), service_key=SERVICE, store=True, poll=0.02)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    url = database_url(f"sqlite:///{folder}/registry.db")
    database = Database(url)
    migrate(database)
    database.close()
    keys = Keys(key_digest(STATIC), key_digest(SERVICE))
    settings = Settings(database=url, storage=f"file://{folder}/storage", keys=keys, sweep_seconds=10_000)
    with listening(settings, Surroundings()) as registry:
        registry.client.headers.update(bearer(STATIC))
        yield registry


@dataclass
class Line:
    """The way from routers to a registry, which can be cut."""

    port: int
    up: bool = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
            both = [self._pipe(reader, far_writer), self._pipe(far_reader, writer)]
            _, left = await asyncio.wait(list(map(asyncio.create_task, both)), return_when=asyncio.FIRST_COMPLETED)
            for pipe in left:
                pipe.cancel()
            far_writer.close()
        writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.up and (data := await reader.read(65536)):
            if self.up:
                writer.write(data)


@asynccontextmanager
async def line_to(registry: Registry) -> AsyncIterator[tuple[Line, str]]:
    line = Line(int(registry.url.rsplit(":", 1)[1]))
    async with await asyncio.start_server(line.carry, "127.0.0.1", 0) as server:
        yield line, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def routers(folder: Path, url: str, count: int = 1) -> AsyncIterator[list[House]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            found.append(
                await stack.enter_async_context(
                    house(own, decode=[fake("decode", "d0")], access=ACCESS, registry_url=url)
                )
            )
        for one in found:
            await one.workers_ready(1)
        yield found


async def says(router: House, raw: str, status: int) -> None:
    """Waits until a router answers a key like this."""
    async with asyncio.timeout(60):
        while (await router.chat(headers=bearer(raw))).status_code != status:
            await asyncio.sleep(0.01)


async def test_a_key_works_on_every_replica_until_it_is_revoked(registry: Registry, tmp_path: Path) -> None:
    async with routers(tmp_path, registry.url, 2) as both:
        raw = registry.post("keys", id="team-a", scopes=["inference"])["key"]
        for router in both:
            await says(router, raw, 200)
        assert registry.delete("keys/team-a").is_success
        for router in both:
            await says(router, raw, 401)


async def test_a_rotated_key_ends_and_its_successor_works(registry: Registry, tmp_path: Path) -> None:
    async with routers(tmp_path, registry.url) as (router,):
        first = registry.post("keys", id="team-b", scopes=["inference"])["key"]
        await says(router, first, 200)
        second = registry.post("keys/team-b/rotate")["key"]
        await says(router, second, 200)
        assert (await router.chat(headers=bearer(first))).status_code == 401


async def test_with_the_registry_away_known_keys_work_and_of_others_nothing_is_said(
    registry: Registry, tmp_path: Path
) -> None:
    raw = registry.post("keys", id="team-c", scopes=["inference"])["key"]
    async with line_to(registry) as (line, url), routers(tmp_path, url) as (router,):
        await says(router, raw, 200)
        assert (await router.chat(headers=bearer("unknown"))).status_code == 401
        line.up = False
        await says(router, "unknown", 503)
        refused = await router.chat(headers=bearer("unknown"))
        assert refused.json()["error"]["code"] == "keys_unavailable"
        assert int(refused.headers["retry-after"]) > 0
        for known in (raw, STATIC):
            assert (await router.chat(headers=bearer(known))).status_code == 200
        line.up = True
        await says(router, "unknown", 401)


async def test_a_router_that_starts_meanwhile_is_ready_only_once_it_has_the_keys(
    registry: Registry, tmp_path: Path
) -> None:
    raw = registry.post("keys", id="team-d", scopes=["inference"])["key"]
    async with line_to(registry) as (line, url):
        line.up = False
        async with routers(tmp_path, url) as (router,):
            assert (await router.http.get("/readyz")).status_code == 503
            assert (await router.chat(headers=bearer(raw))).status_code == 503
            assert (await router.chat(headers=bearer(STATIC))).status_code == 200
            line.up = True
            await answers(router.http, "/readyz", 200)
            assert (await router.chat(headers=bearer(raw))).status_code == 200


async def test_a_registry_that_refuses_the_service_key_counts_as_away(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = replace(ACCESS, service_key="another-one-altogether")
    async with house(tmp_path, access=access, registry_url=registry.url) as router:
        await router.until(lambda: "status 401" in caplog.text)
        assert (await router.http.get("/readyz")).status_code == 503


def test_known_keys_work_no_longer_than_max_stale_without_the_store() -> None:
    now = 100.0
    ring = KeyRing(replace(ACCESS, max_stale=60), lambda: now, lambda: 0.0)
    ring.take(KeySnapshot(version=1, keys=(key("team", "inference"),)))
    ring.lose()
    now += 60
    assert ring.caller("KEY-team").id == "team"
    now += 1
    with pytest.raises(Refused) as refused:
        ring.caller("KEY-team")
    assert refused.value.status == 503
    assert ring.caller(STATIC).scopes
    ring.confirm()
    assert ring.caller("KEY-team").id == "team"
