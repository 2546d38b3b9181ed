"""Requests that wait for a place: bounded, in order, not for ever, and told when to come again."""

import asyncio

import pytest
from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import Topology
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.exchanges.exchange import REFUSALS

from tests.router.fake_worker import FakeCall, decode_well, fail_with, prefill_well
from tests.router.house import CHAT, STREAM, House, OpenHouse, fake, topology_of


class Gate:
    """Holds calls back until the test lets them go on, one by one."""

    def __init__(self) -> None:
        self.order: list[bytes] = []
        self._open = asyncio.Semaphore(0)

    async def __call__(self, call: FakeCall) -> None:
        self.order.append(call.body)
        await self._open.acquire()
        await decode_well(call)

    def let(self, number: int) -> None:
        for _ in range(number):
            self._open.release()


def queue(max_waiting: int = 256, timeout: float = 30.0) -> RoutingSpec:
    return RoutingSpec.model_validate({"queue": {"max_waiting": max_waiting, "timeout": timeout}})


def asking(h: House, number: int) -> "asyncio.Task[object]":
    return asyncio.create_task(h.chat({**CHAT, "user": str(number)}))


def waiting(h: House) -> int:
    return sum(service.room.taken for service in h.router.fleet.services.values())


async def test_requests_beyond_the_places_wait_and_are_served_in_order(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)], routing=queue()) as h:
        tasks = []
        for number in range(4):
            tasks.append(asking(h, number))
            await h.until(lambda n=number: waiting(h) == n and len(gate.order) == 1)
        gate.let(4)
        answers = await asyncio.gather(*tasks)
        assert [a.status_code for a in answers] == [200] * 4
        assert [b'"user":"%d"' % n in body for n, body in enumerate(gate.order)] == [True] * 4


async def test_one_more_than_the_queue_holds_is_a_429_with_retry_after(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)], routing=queue(max_waiting=1)) as h:
        tasks = [asking(h, 0), asking(h, 1)]
        await h.until(lambda: waiting(h) == 1)
        refused = await h.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        gate.let(2)
        assert [a.status_code for a in await asyncio.gather(*tasks)] == [200, 200]


async def test_a_wait_that_is_too_long_is_a_429(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)], routing=queue(timeout=0.2)) as h:
        first = asking(h, 0)
        await h.until(lambda: gate.order)
        late = await h.chat()
        assert (late.status_code, "in the queue" in late.json()["error"]["message"]) == (429, True)
        gate.let(1)
        await first


async def test_a_wait_in_which_the_workers_went_is_a_503(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)], routing=queue(timeout=4)) as h:
        first = asking(h, 0)
        await h.until(lambda: gate.order)
        second = asking(h, 1)
        await h.until(lambda: waiting(h) == 1)
        h.decode[0].report(ready=False)
        assert (await second).status_code == 503
        gate.let(1)
        await first


async def test_a_client_that_leaves_the_queue_leaves_its_place(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)]) as h:
        first = asking(h, 0)
        await h.until(lambda: gate.order)
        second = asking(h, 1)
        await h.until(lambda: waiting(h) == 1)
        second.cancel()
        await h.until(lambda: waiting(h) == 0)
        gate.let(1)
        await first


async def test_a_known_model_without_a_ready_worker_is_a_503_with_retry_after(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        h.decode[0].report(ready=False)
        await h.workers_ready(0)
        answer = await h.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert [m["id"] for m in (await h.http.get("/v1/models")).json()["data"]] == ["org/m"]


async def test_no_ready_prefill_worker_is_a_503_before_any_worker_is_called(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        h.prefill[0].report(ready=False)
        await h.workers_ready(1)
        assert (await h.chat()).status_code == 503
        assert not h.decode[0].calls


async def test_a_draining_worker_gets_no_calls(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0"), fake("decode", "d1")]) as h:
        h.decode[0].report(draining=True)
        await h.workers_ready(1)
        for _ in range(4):
            assert (await h.chat()).status_code == 200
        assert (len(h.decode[0].calls), len(h.decode[1].calls)) == (0, 4)


async def test_a_worker_that_refuses_for_the_moment_is_asked_again(open_house: OpenHouse) -> None:
    refusals = [fail_with(pb.OVERLOADED)] * 3

    async def busy(call: FakeCall) -> None:
        await (refusals.pop() if refusals else prefill_well)(call)

    async with open_house([fake("prefill", "p0", busy)], [fake("decode", "d0")]) as h:
        assert (await h.chat(STREAM)).status_code == 200
        assert len(h.prefill[0].calls) == 4


async def test_a_worker_that_goes_on_refusing_is_a_429(open_house: OpenHouse) -> None:
    async with open_house(
        [fake("prefill", "p0", fail_with(pb.OVERLOADED))], [fake("decode", "d0")], routing=queue(timeout=0.3)
    ) as h:
        answer = await h.chat()
        assert answer.status_code == 429
        assert "retry-after" in answer.headers


async def test_who_waits_for_a_service_that_is_taken_away_is_told(open_house: OpenHouse) -> None:
    gate = Gate()
    async with open_house(decode=[fake("decode", "d0", gate, max_running=1)]) as h:
        first = asking(h, 0)
        await h.until(lambda: gate.order)
        second = asking(h, 1)
        await h.until(lambda: waiting(h) == 1)
        h.write_topology(Topology())
        assert (await second).status_code == 503
        assert (await h.chat()).status_code == 404
        # The call that runs is let finish.
        gate.let(1)
        assert (await first).status_code == 200


async def test_a_worker_that_comes_serves_who_waits(open_house: OpenHouse) -> None:
    gate = Gate()
    one, two = fake("decode", "d0", gate, max_running=1), fake("decode", "d1")
    async with open_house(decode=[one]) as h, two.serving():
        first = asking(h, 0)
        await h.until(lambda: gate.order)
        second = asking(h, 1)
        await h.until(lambda: waiting(h) == 1)
        h.write_topology(topology_of([one, two], RoutingSpec()))
        assert (await second).status_code == 200
        gate.let(1)
        await first


async def test_a_request_asks_full_workers_only_so_often(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_router.scheduling.worker.LONGEST_REFUSAL", 0.02)
    full = fake("prefill", "p0", fail_with(pb.OVERLOADED))
    async with open_house([full], [fake("decode", "d0")]) as h:
        answer = await h.chat()
        assert (answer.status_code, len(full.calls)) == (429, REFUSALS + 1)
        labels = 'reason="overloaded",role="prefill",service="default/m",version="v1"'
        assert await h.metric(f"tandem_router_retries_total{{{labels}}}") == REFUSALS


async def test_who_waits_for_a_full_worker_keeps_no_place_from_others(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_router.scheduling.worker.REFUSED_SECONDS", 1000.0)
    monkeypatch.setattr("tandem_router.scheduling.worker.LONGEST_REFUSAL", 1000.0)
    full = fake("prefill", "p0", fail_with(pb.OVERLOADED))
    async with open_house([full], [fake("decode", "d0")]) as h:
        task = asking(h, 0)
        await h.until(lambda: full.calls and waiting(h) == 1)
        assert h.router.fleet.placed == 0
        task.cancel()
        await asyncio.wait([task])
