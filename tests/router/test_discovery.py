"""What there is to serve comes from a file that may change, be wrong, or be missing for a while."""

import asyncio
import time
from pathlib import Path

import pytest
from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import Topology
from tandem_router.discovery.file import FileSource

from tests.router.fake_worker import FakeCall, decode_well
from tests.router.house import MODEL, OpenHouse, answers, fake, following, topology_of, until


async def test_a_file_is_read_again_whenever_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "topology.json"
    path.write_text(Topology().model_dump_json())
    async with following(FileSource(path, poll=0.01)) as told, asyncio.timeout(60):
        assert await told.get() == Topology()
        worker = fake("decode", "d0")
        async with worker.serving():
            wanted = topology_of([worker], RoutingSpec())
        (tmp_path / "next").write_text(wanted.model_dump_json())
        (tmp_path / "next").replace(path)
        assert await told.get() == wanted


async def test_a_file_that_comes_later_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "topology.json"
    async with following(FileSource(path, poll=0.01)) as told, asyncio.timeout(60):
        await until(lambda: caplog.records)
        (tmp_path / "next").write_text(Topology().model_dump_json())
        (tmp_path / "next").replace(path)
        assert await told.get() == Topology()
    assert [r.levelname for r in caplog.records] == ["WARNING"]


async def test_a_bad_file_is_said_and_what_was_served_goes_on(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        good = h.topology.read_text()
        h.topology.write_text('{"services": [{"name": 3}]}')
        await h.until(lambda: any("can't be used" in r.getMessage() for r in caplog.records))
        assert (await h.chat()).status_code == 200
        h.topology.write_text(good)
        assert (await h.chat()).status_code == 200


async def test_a_worker_that_leaves_finishes_its_calls_and_gets_no_more(open_house: OpenHouse) -> None:
    go_on = asyncio.Event()

    async def wait(call: FakeCall) -> None:
        await go_on.wait()
        await decode_well(call)

    old, new = fake("decode", "d0", wait), fake("decode", "d1")
    async with open_house(decode=[old]) as h, new.serving():
        running = asyncio.create_task(h.chat())
        await h.until(lambda: old.open)
        h.write_topology(topology_of([new], RoutingSpec()))
        await h.until(lambda: [w.name for w in h.router.fleet.workers if w.ready] == ["d1"])
        assert (await h.chat()).status_code == 200
        assert (len(old.calls), len(new.calls), len(old.sessions)) == (1, 1, 1)
        go_on.set()
        assert (await running).status_code == 200
        await h.until(lambda: not old.sessions)


async def test_a_topology_that_changes_nothing_keeps_the_sessions(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        before = list(h.router.fleet.workers)
        seen = h.topology.stat().st_ino
        h.write_topology(topology_of([*h.prefill, *h.decode], RoutingSpec(disaggregate_from=5)))
        assert h.topology.stat().st_ino != seen
        await h.until(lambda: h.router.fleet.services["org/m"].routing.disaggregate_from == 5)
        assert list(h.router.fleet.workers) == before
        assert (len(h.prefill[0].sessions), len(h.decode[0].sessions)) == (1, 1)


async def test_a_session_that_was_lost_comes_back(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        h.decode[0].drop_sessions()
        await h.until(lambda: not any(w.ready for w in h.router.fleet.workers))
        await h.workers_ready(1)
        assert (await h.chat()).status_code == 200


async def test_one_worker_down_takes_nothing_from_the_others(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")], dead=[fake("decode", "d1")]) as h:
        assert (await h.http.get("/v1/models")).status_code == 200
        for _ in range(4):
            assert (await h.chat()).status_code == 200


async def test_a_router_is_ready_with_all_sessions_and_stays_so(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")], ready_after=1000) as h:
        assert (await h.http.get("/readyz")).json() == {"status": "ready"}
        await h.decode[0].die()
        await h.until(lambda: not any(w.link.connected for w in h.router.fleet.workers))
        assert (await h.http.get("/readyz")).status_code == 200


async def test_a_worker_that_cant_be_reached_holds_readiness_only_for_a_while(
    open_house: OpenHouse, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_house(decode=[fake("decode", "d0")], dead=[fake("decode", "d1")], ready_after=1000) as h:
        first = await h.http.get("/readyz")
        assert (first.status_code, first.json()) == (503, {"status": "not ready"})
        h.router.clock = lambda: time.monotonic() + 1000
        await answers(h.http, "/readyz", 200)
        assert any("ready without d1" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("text", ["", "{bad"], ids=["empty", "bad"])
async def test_before_the_topology_is_known_every_model_is_a_503_with_retry_after(
    open_house: OpenHouse, text: str
) -> None:
    async with open_house(decode=[fake("decode", "d0")], at_start=text) as h:
        answers = [await h.chat(), await h.http.get(f"/v1/models/{MODEL}")]
        assert [(a.status_code, a.json()["error"]["code"]) for a in answers] == [(503, "unavailable")] * 2
        assert all(int(a.headers["retry-after"]) > 0 for a in answers)
        assert (await h.http.get("/readyz")).status_code == 503
        h.write_topology(topology_of(h.decode, RoutingSpec()))
        await h.workers_ready(1)
        assert (await h.chat()).status_code == 200
        assert (await h.chat({"model": "none"})).status_code == 404
