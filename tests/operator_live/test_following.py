"""A real registry, followed by an operator: what sources stand for, and what is in use."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tandem_api.registry import key_digest
from tandem_operator import following as module
from tandem_operator.following import Following
from tandem_operator.planning.observed import Resolution
from tandem_operator.settings import RegistrySettings
from tandem_operator.store import Key
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings

from tests.registry.house import Clock, House, listening

LLAMA: Key = ("ns", "llama")
HOLDER = "ns/llama/u1"
SOURCE = "registry://qwen3"
STATIC, SERVICE = "the static key of this test", "the service key of this test"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[House]:
    url = database_url(f"sqlite:///{tmp_path}/registry.db")
    store = Database(url)
    migrate(store)
    store.close()
    keys = Keys(key_digest(STATIC), key_digest(SERVICE))
    clock = Clock(datetime(2026, 3, 1, tzinfo=UTC))
    with listening(Settings(url, f"file://{tmp_path}/storage", keys), Surroundings(clock=clock)) as house:
        house.client.headers["Authorization"] = f"Bearer {STATIC}"
        house.model("qwen3", "v1", "v2", active="v1")
        yield house


class Seen:
    """What an operator's follower told."""

    def __init__(self, following: Following, told: "asyncio.Queue[Key]") -> None:
        self.following = following
        self.told = told

    async def next(self, source: str = SOURCE) -> Resolution:
        assert await self.told.get() == LLAMA
        return self.following.known()[source]

    async def until(self, holds: Callable[[], bool]) -> None:
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def following(url: str | None, key: Path | None = None, clock: list[float] | None = None) -> AsyncIterator[Seen]:
    told: asyncio.Queue[Key] = asyncio.Queue()
    settings = None if url is None else RegistrySettings(url=url, key_file=key)
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False, timeout=None) as http:
        made = Following(http, settings, told.put_nowait, lambda: (clock or [0.0])[0])
        task = asyncio.create_task(made.run())
        try:
            yield Seen(made, told)
        finally:
            task.cancel()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(f"{SERVICE}\n")
    return tmp_path / "key"


def used_by(registry: House, version: str) -> list[str]:
    found: list[str] = registry.get(f"registry/models/qwen3/versions/{version}")["used_by"]
    return found


async def test_an_activation_and_a_rollback_are_told_as_they_happen(registry: House, key: Path) -> None:
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", [SOURCE], [])
        assert await seen.next() == Resolution("hf://org/v1", registered="qwen3/v1")
        await asyncio.to_thread(registry.activate, "qwen3", "v2")
        assert await seen.next() == Resolution("hf://org/v2", registered="qwen3/v2")
        await asyncio.to_thread(registry.change, "qwen3", "rollback")
        assert (await seen.next()).registered == "qwen3/v1"
        assert seen.told.empty(), "it is told of changes only"


async def test_a_version_of_the_repository_is_pinned_by_its_digest(registry: House, key: Path) -> None:
    made = registry.artifact("acme/qwen3")
    brought = ["--max-model-len=8192"]
    registry.post("registry/models/qwen3/versions", name="v3", artifact="acme/qwen3", engine={"args": brought})
    source = "registry://qwen3/v3"
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", [source], [])
        pinned = f"{source}?{made['digest'].replace(':', '=')}"
        assert await seen.next(source) == Resolution(pinned, registered="qwen3/v3", args=tuple(brought))


async def test_what_the_registry_refuses_is_told_in_its_own_words(registry: House, key: Path) -> None:
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", ["registry://qwen3/v9"], [])
        assert "there is no version 'v9'" in (await seen.next("registry://qwen3/v9")).error


async def test_a_version_in_use_can_not_be_deleted_until_it_is_not(registry: House, key: Path) -> None:
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", [], ["qwen3/v1", "qwen3/v2"])
        await seen.until(lambda: used_by(registry, "v1") == [HOLDER] == used_by(registry, "v2"))
        refused = await asyncio.to_thread(registry.delete, "registry/models/qwen3/versions/v2")
        assert refused.status_code == 409
        seen.following.want(LLAMA, "u1", [], ["qwen3/v1"])
        await seen.until(lambda: used_by(registry, "v2") == [])
        seen.following.forget(LLAMA)
        await seen.until(lambda: used_by(registry, "v1") == [])


async def test_an_operator_takes_back_what_one_before_it_said_and_nothing_of_others(registry: House, key: Path) -> None:
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", [], ["qwen3/v1"])
        await seen.until(lambda: used_by(registry, "v1") == [HOLDER])
    registry.client.put("/admin/v1/registry/models/qwen3/versions/v1/uses/elsewhere/llama/u2")
    async with following(registry.url, key) as seen:
        seen.following.want(LLAMA, "u1", [], ["qwen3/v2"])
        await seen.until(lambda: used_by(registry, "v2") == [HOLDER])
        await seen.until(lambda: used_by(registry, "v1") == ["elsewhere/llama/u2"])


async def test_a_registry_that_is_away_for_a_moment_is_no_news_and_for_longer_it_is(registry: House, key: Path) -> None:
    clock = [0.0]
    async with following(registry.url, key, clock) as seen:
        seen.following.want(LLAMA, "u1", [SOURCE], [])
        await seen.next()
        key.write_text("not the key")
        clock[0] = module.TOLERATED_SECONDS - 1
        seen.following.want(LLAMA, "u1", [SOURCE, "registry://qwen3/v2"], [])
        await seen.told.get()
        assert seen.following.known()["registry://qwen3/v2"].error, "what was never known is not waited for"
        assert seen.following.known()[SOURCE].registered == "qwen3/v1"
        clock[0] = module.TOLERATED_SECONDS
        assert "it answers 401" in (await seen.next()).error
        key.write_text(SERVICE)
        await seen.until(lambda: seen.following.known()[SOURCE].registered == "qwen3/v1")


async def test_without_a_registry_a_source_of_one_says_so() -> None:
    async with following(None) as seen:
        seen.following.want(LLAMA, "u1", [SOURCE], ["qwen3/v1"])
        assert "There is no registry here" in (await seen.next()).error
