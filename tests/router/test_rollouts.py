"""While a version's workers are replaced: which revision a call begins on, which it stays on, and who waits."""

import asyncio
from typing import Any

from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.router.fake_worker import FakeCall, FakeWorker, Script, decode_well, fail_with, prefill_well
from tests.router.house import CHAT, MODEL, STREAM, House, OpenHouse, fake


def of(revision: str, role: str, name: str, script: Any = None, max_running: int = 8) -> FakeWorker:
    made = fake(role, name, script, max_running=max_running)
    made.identity.revision = revision
    return made


def routed(*revisions: tuple[str, list[FakeWorker], bool], held: bool = False, **more: Any) -> Topology:
    """One service of one version; of its revisions the name, the workers, and whether calls may begin."""
    made = tuple(
        RevisionEndpoints(
            name=name,
            disaggregated=any(w.role == "prefill" for w in workers),
            traffic=traffic,
            workers=tuple(w.endpoint for w in workers),
        )
        for name, workers, traffic in revisions
    )
    version = VersionRoutes(name="v1", weight=100, revisions=made, held=held)
    service = {"name": "m", "namespace": "default", "model": MODEL, "routing": RoutingSpec(), **more}
    return Topology(services=(ServiceRoutes(versions=(version,), **service),))


async def routes(h: House, topology: Topology) -> None:
    """Writes a topology, and waits until the router acts on it."""
    h.write_topology(topology)
    await h.until(lambda: h.router.fleet.services[MODEL].routes == topology.services[0])


def waiting(h: House) -> int:
    return h.router.fleet.services[MODEL].room.taken


class Gate:
    """Holds calls back until the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, call: FakeCall) -> None:
        await self.open.wait()
        await (prefill_well if call.worker.role == "prefill" else decode_well)(call)


def failing_after(gate: asyncio.Event) -> Script:
    async def script(call: FakeCall) -> None:
        await gate.wait()
        await fail_with(pb.INTERNAL)(call)

    return script


async def test_of_equally_loaded_revisions_the_preferred_one_begins_calls(open_house: OpenHouse) -> None:
    old, new = of("r1", "decode", "d-old"), of("r2", "decode", "d-new")
    async with old.serving(), new.serving(), open_house() as h:
        await routes(h, routed(("r2", [new], True), ("r1", [old], True)))
        await h.workers_ready(2)
        for _ in range(5):
            await h.chat()
        assert (len(old.calls), len(new.calls)) == (0, 5)


async def test_a_preferred_revision_takes_no_more_than_its_part(open_house: OpenHouse) -> None:
    gate = Gate()
    old = [of("r1", "decode", f"d-old{n}", gate) for n in range(3)]
    new = of("r2", "decode", "d-new", gate)
    async with old[0].serving(), old[1].serving(), old[2].serving(), new.serving(), open_house() as h:
        await routes(h, routed(("r2", [new], True), ("r1", old, True)))
        await h.workers_ready(4)
        tasks = [asyncio.create_task(h.chat()) for _ in range(8)]
        await h.until(lambda: sum(len(w.calls) for w in (*old, new)) == 8)
        assert [len(w.calls) for w in (*old, new)] == [2, 2, 2, 2]
        gate.open.set()
        await asyncio.gather(*tasks)


async def test_a_revision_without_traffic_begins_nothing_and_finishes_what_it_has(open_house: OpenHouse) -> None:
    gate = Gate()
    old = [of("r1", "prefill", "p-old", gate), of("r1", "decode", "d-old")]
    new = [of("r2", "prefill", "p-new"), of("r2", "decode", "d-new")]
    async with old[0].serving(), old[1].serving(), new[0].serving(), new[1].serving(), open_house() as h:
        await routes(h, routed(("r1", old, True)))
        await h.workers_ready(2)
        running = asyncio.create_task(h.chat(STREAM))
        await h.until(lambda: old[0].open)
        await routes(h, routed(("r2", new, True), ("r1", old, False)))
        await h.workers_ready(4)
        for _ in range(3):
            assert (await h.chat()).status_code == 200
        assert [len(w.calls) for w in (*old, *new)] == [1, 0, 3, 3]
        gate.open.set()
        assert (await running).text.endswith("data: [DONE]\n\n")
        # It had a place at that revision's decode, and its KV came from there.
        assert [len(w.calls) for w in (*old, *new)] == [1, 1, 3, 3]


async def test_a_retry_stays_with_the_revision_whose_kv_it_holds(open_house: OpenHouse) -> None:
    old = [of("r1", "prefill", "p-old"), of("r1", "decode", "d-bad"), of("r1", "decode", "d-good")]
    new = [of("r2", "prefill", "p-new"), of("r2", "decode", "d-new")]
    gate = asyncio.Event()
    old[1].script = failing_after(gate)
    async with (
        old[0].serving(),
        old[1].serving(),
        old[2].serving(),
        new[0].serving(),
        new[1].serving(),
        open_house() as h,
    ):
        await routes(h, routed(("r1", [old[0], old[1]], True)))
        await h.workers_ready(2)
        running = asyncio.create_task(h.chat())
        await h.until(lambda: old[1].open)
        await routes(h, routed(("r2", new, True), ("r1", old, False)))
        await h.workers_ready(5)
        gate.set()
        assert (await running).status_code == 200
        assert (len(old[0].calls), len(old[0].handed_on), len(old[2].calls)) == (1, 1, 1)
        assert not new[0].calls


async def test_a_retry_whose_revision_has_gone_is_prefilled_on_another(open_house: OpenHouse) -> None:
    gate = asyncio.Event()
    old = [of("r1", "prefill", "p-old"), of("r1", "decode", "d-old", failing_after(gate))]
    new = [of("r2", "prefill", "p-new"), of("r2", "decode", "d-new")]
    async with old[0].serving(), old[1].serving(), new[0].serving(), new[1].serving(), open_house() as h:
        await routes(h, routed(("r1", old, True)))
        await h.workers_ready(2)
        running = asyncio.create_task(h.chat())
        await h.until(lambda: old[1].open)
        await routes(h, routed(("r2", new, True)))
        await h.workers_ready(2)
        gate.set()
        assert (await running).status_code == 200
        assert [len(w.calls) for w in (*old, *new)] == [1, 1, 1, 1]
        await h.until(lambda: not old[0].leases)


async def test_a_terminating_worker_finishes_its_calls_and_gets_no_others(open_house: OpenHouse) -> None:
    gate = Gate()
    leaving, staying = of("r1", "decode", "d0", gate), of("r1", "decode", "d1")
    async with leaving.serving(), staying.serving(), open_house() as h:
        await routes(h, routed(("r1", [leaving], True)))
        await h.workers_ready(1)
        running = asyncio.create_task(h.chat())
        await h.until(lambda: leaving.open)
        leaving.endpoint = leaving.endpoint.model_copy(update={"terminating": True, "ready": False})
        await routes(h, routed(("r1", [leaving, staying], True)))
        await h.workers_ready(1)
        # What it says of itself changes nothing.
        leaving.report(ready=True)
        for _ in range(4):
            assert (await h.chat()).status_code == 200
        assert (len(leaving.calls), len(staying.calls), len(leaving.sessions)) == (1, 4, 1)
        gate.open.set()
        assert (await running).status_code == 200


# ---- a version without a pair for a moment


async def test_requests_for_a_held_version_wait_for_its_next_pair(open_house: OpenHouse) -> None:
    pair = [of("r2", "prefill", "p0"), of("r2", "decode", "d0")]
    async with pair[0].serving(), pair[1].serving(), open_house() as h:
        await routes(h, routed(("r2", [], True), held=True))
        tasks = [asyncio.create_task(h.chat(STREAM)) for _ in range(20)]
        await h.until(lambda: waiting(h) == 20)
        assert await h.metric('tandem_router_held{service="default/m",version="v1"}') == 1
        assert await h.metric('tandem_router_queued{service="default/m",version="v1"}') == 20
        # The operator lets go as soon as a pair is back: those that wait are not sent away.
        await routes(h, routed(("r2", pair, True)))
        assert [a.status_code for a in await asyncio.gather(*tasks)] == [200] * 20
        assert await h.metric('tandem_router_held_seconds_count{service="default/m",version="v1"}') == 20
        assert (await h.chat()).status_code == 200
        assert await h.metric('tandem_router_held_seconds_count{service="default/m",version="v1"}') == 20


async def test_a_wait_for_a_held_version_ends_with_a_503(open_house: OpenHouse) -> None:
    async with open_house() as h:
        await routes(h, routed(held=True, queue_timeout=0.2))
        answer = await h.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert "in the queue" in answer.json()["error"]["message"]


async def test_a_version_that_is_not_held_is_a_503_at_once(open_house: OpenHouse) -> None:
    async with open_house() as h:
        await routes(h, routed(queue_timeout=1000))
        answer = await h.chat()
        assert (answer.status_code, "in the queue" in answer.text) == (503, False)


async def test_the_queue_of_a_held_version_is_bounded(open_house: OpenHouse) -> None:
    async with open_house() as h:
        short = RoutingSpec.model_validate({"queue": {"max_waiting": 2}})
        await routes(h, routed(held=True, routing=short))
        tasks = [asyncio.create_task(h.chat()) for _ in range(2)]
        await h.until(lambda: waiting(h) == 2)
        refused = await h.chat()
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await h.until(lambda: waiting(h) == 0)


async def test_who_waits_already_waits_on_when_the_version_is_held(open_house: OpenHouse) -> None:
    gate = Gate()
    only, next_one = of("r1", "decode", "d0", gate, max_running=1), of("r2", "decode", "d1")
    short = RoutingSpec.model_validate({"queue": {"timeout": 4}})
    async with only.serving(), next_one.serving(), open_house() as h:
        await routes(h, routed(("r1", [only], True), routing=short))
        await h.workers_ready(1)
        first = asyncio.create_task(h.chat())
        await h.until(lambda: only.open)
        second = asyncio.create_task(h.chat())
        await h.until(lambda: waiting(h) == 1)
        await routes(h, routed(("r1", [only], False), held=True, routing=short, queue_timeout=1000))
        await asyncio.sleep(4.5)
        assert not second.done()
        await routes(h, routed(("r2", [next_one], True), routing=short))
        assert (await second).status_code == 200
        gate.open.set()
        assert (await first).status_code == 200


async def test_a_call_that_failed_on_the_last_pair_waits_for_the_next(open_house: OpenHouse) -> None:
    gate = asyncio.Event()
    last, next_one = of("r1", "decode", "d0", failing_after(gate)), of("r2", "decode", "d1")
    async with last.serving(), next_one.serving(), open_house() as h:
        await routes(h, routed(("r1", [last], True)))
        await h.workers_ready(1)
        running = asyncio.create_task(h.chat())
        await h.until(lambda: last.open)
        await routes(h, routed(held=True))
        gate.set()
        await h.until(lambda: waiting(h) == 1)
        await routes(h, routed(("r2", [next_one], True)))
        assert (await running).status_code == 200


async def test_another_version_serves_the_clients_of_a_held_one(open_house: OpenHouse) -> None:
    worker = of("v1-r1", "decode", "d0")
    async with worker.serving(), open_house() as h:
        here = RevisionEndpoints(name="v1-r1", disaggregated=False, workers=(worker.endpoint,))
        versions = (
            VersionRoutes(name="v1", weight=50, revisions=(here,)),
            VersionRoutes(name="v2", weight=50, held=True),
        )
        service = ServiceRoutes(name="m", namespace="default", model=MODEL, routing=RoutingSpec(), versions=versions)
        await routes(h, Topology(services=(service,)))
        await h.workers_ready(1)
        assert {(await h.chat({**CHAT, "user": str(n)})).status_code for n in range(20)} == {200}
