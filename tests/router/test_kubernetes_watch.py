"""An API server may go away, forget, fall silent or say nonsense: the router goes on with what it knew."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tandem_api.topology import Topology
from tandem_router.discovery import watching
from tandem_router.discovery.kubernetes import KubernetesSource

from tests.router.house import following, until
from tests.router.kubernetes_objects import (
    SERVICES,
    SLICES,
    FakeApi,
    Reply,
    Request,
    endpoint,
    event,
    service,
    slice_of,
    version,
)

Watching = Callable[[Request, Reply], Any]


def served(name: str = "m", observed: str = "5", **status: Any) -> dict[str, Any]:
    made = service(name)
    made["metadata"]["resourceVersion"] = observed
    return {**made, "status": {"versions": [version(**status)]}}


def workers(topology: Topology) -> list[str]:
    return [w.name for s in topology.services for v in s.versions for r in v.revisions for w in r.workers]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.005)


@asynccontextmanager
async def told_by(watch: Watching, *endpoints: Any) -> AsyncIterator[tuple[FakeApi, "asyncio.Queue[Topology]"]]:
    """An API server with one service; what it says of slices in watches is the test's."""

    async def answer(request: Request, reply: Reply) -> None:
        if request.path == SERVICES:
            reply.head()
            await reply.rest()
        await watch(request, reply)

    api = FakeApi(answer, {SERVICES: [served()], SLICES: [slice_of(*endpoints)]})
    async with api.serving(), asyncio.timeout(60):
        source = KubernetesSource(api.connect, rng=random.Random(1))
        async with following(source) as told:
            yield api, told


async def test_the_first_topology_comes_when_everything_is_listed() -> None:
    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        await reply.rest()

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (_, told):
        assert workers(await told.get()) == ["d0"]


async def test_a_watch_that_ends_goes_on_where_it_was() -> None:
    changes = [
        event("MODIFIED", slice_of(endpoint("d1", "10.0.0.1"))),
        event("MODIFIED", slice_of(endpoint("d2", "10.0.0.2"))),
    ]
    versions = ["10", *(change["object"]["metadata"]["resourceVersion"] for change in changes)]

    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        position = versions.index(request.params["resourceVersion"])
        reply.events(*changes[position : position + 1])
        if position == len(changes):
            await reply.rest()

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (api, told):
        while workers(await told.get()) != ["d2"]:
            pass
        await until(lambda: len(api.watches(SLICES)) == 3)
        assert api.lists(SLICES) == 1


async def test_bookmarks_move_on_from_where_a_watch_goes_on() -> None:
    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        if request.params["resourceVersion"] == "10":
            reply.events({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}})
        else:
            await reply.rest()

    async with told_by(watch) as (api, _):
        await until(lambda: len(api.watches(SLICES)) == 2)
        asked = api.watches(SLICES)
        assert [w.params["resourceVersion"] for w in asked] == ["10", "77"]
        assert asked[0].params["allowWatchBookmarks"] == "true"
        assert int(asked[0].params["timeoutSeconds"]) >= watching.WATCH_SECONDS


@pytest.mark.parametrize("how", ["status", "event"])
async def test_what_the_server_no_longer_knows_is_listed_again(how: str) -> None:
    async def watch(request: Request, reply: Reply) -> None:
        if api.lists(SLICES) > 1:
            reply.head()
            await reply.rest()
        api.objects[SLICES] = [slice_of(endpoint("d1", "10.0.0.2"))]
        if how == "status":
            reply.failure(410, "too old resource version")
        else:
            reply.head()
            reply.events({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (api, told):
        while workers(await told.get()) != ["d1"]:
            pass
        assert api.lists(SLICES) == 2


@pytest.mark.parametrize("trouble", ["500", "401", "nonsense", "cut"])
async def test_trouble_with_the_server_changes_nothing_and_is_said_once(
    trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def watch(request: Request, reply: Reply) -> None:
        if len(api.watches(SLICES)) > 5:
            reply.head()
            reply.events(event("MODIFIED", slice_of(endpoint("d1", "10.0.0.2"))))
            await reply.rest()
        if trouble.isdigit():
            reply.failure(int(trouble), "no")
        elif trouble == "nonsense":
            reply.head()
            reply.writer.write(b"<html>\n")

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (api, told):
        assert workers(await told.get()) == ["d0"]
        assert workers(await told.get()) == ["d1"]
        assert api.lists(SLICES) == 1
        said = [r.getMessage() for r in caplog.records if "can't be watched" in r.getMessage()]
        assert len(said) == 1


async def test_a_silent_connection_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SILENCE_SECONDS", 0.05)

    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        await reply.rest()

    async with told_by(watch) as (api, _):
        await until(lambda: len(api.watches(SLICES)) >= 3)
        assert api.lists(SLICES) == 1


async def test_long_lists_come_in_pages() -> None:
    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        await reply.rest()

    slices = [slice_of(endpoint(f"d{n}", f"10.0.0.{n}"), suffix=f"-{n}") for n in range(3)]
    api = FakeApi(watch, {SERVICES: [served()], SLICES: slices}, page=1)
    async with api.serving(), asyncio.timeout(60), following(KubernetesSource(api.connect)) as told:
        assert workers(await told.get()) == ["d0", "d1", "d2"]
    assert [r.params.get("continue") for r in api.asked if r.path == SLICES and not r.watches] == [None, "1", "2"]


async def test_a_burst_of_changes_is_told_together() -> None:
    go_on = asyncio.Event()

    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        await reply.writer.drain()
        await go_on.wait()
        reply.events(*(event("MODIFIED", slice_of(endpoint(f"d{n}", "10.0.0.2"))) for n in range(500)))
        await reply.rest()

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (_, told):
        await told.get()
        go_on.set()
        told_ones = 1
        while workers(await told.get()) != ["d499"]:
            told_ones += 1
        assert told_ones < 50


async def test_what_other_characters_end_a_line_of_text_ends_no_event() -> None:
    odd = slice_of(endpoint("d1", "10.0.0.2"))
    odd["metadata"]["annotations"] = {"note": "one\u0085two\u2028three"}

    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        text = json.dumps(event("MODIFIED", odd), ensure_ascii=False).encode() + b"\n"
        for half in (text[:40], text[40:]):
            reply.writer.write(half)
            await reply.writer.drain()
        await reply.rest()

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (api, told):
        while workers(await told.get()) != ["d1"]:
            pass
        assert len(api.watches(SLICES)) == 1


async def test_an_object_that_cant_be_read_is_said_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    bad = slice_of(endpoint("d1", "10.0.0.2"), suffix="-bad")
    bad["endpoints"] = "none"

    async def watch(request: Request, reply: Reply) -> None:
        reply.head()
        reply.events(event("ADDED", bad), event("MODIFIED", slice_of(endpoint("d2", "10.0.0.3"))))
        await reply.rest()

    async with told_by(watch, endpoint("d0", "10.0.0.1")) as (_, told):
        while workers(await told.get()) != ["d2"]:
            pass
    assert [r.getMessage().split()[0] for r in caplog.records if "left out" in r.getMessage()] == [
        "default/m-v1-decode-r1-bad"
    ]
