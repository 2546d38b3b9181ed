"""A worker from its start to its end: probes, readiness, drain, exit codes."""

import asyncio
import time
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tandem_engine.errors import EngineDead, Unavailable
from tandem_engine.worker import announcing, watching
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.worker.reflecting import reflected

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def probe(worker, service: str) -> int:
    async with worker.channel(worker.ports.health) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)).status


async def probed(worker, service: str, status: int) -> None:
    """Returns when a probe says so."""
    async with worker.channel(worker.ports.health) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=60)
        async for response in watch:
            if response.status == status:
                return


class Starting:
    """An engine's start that a test lets go, or fails."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        await self.go.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def starting(engine) -> Starting:
    engine.starting = Starting()
    return engine.starting


@asynccontextmanager
async def an_open_call(engine, router):
    """A call that is answered when the block is left."""
    go, begun = asyncio.Event(), asyncio.Event()
    plain = engine.answering

    async def answer(call, reply):
        begun.set()
        await go.wait()
        engine.answering = plain
        return await engine.generate(call, reply)

    engine.answering = answer
    await router.submit(1, {"words": ["late"]})
    await begun.wait()
    yield
    go.set()


async def test_a_starting_worker_is_alive_and_not_ready(running, engine, starting):
    async with running(engine=engine) as worker:
        assert await probe(worker, "liveness") == SERVING
        assert await probe(worker, "readiness") == NOT_SERVING
        assert await probe(worker, "") == NOT_SERVING
        described = await worker.describe()
        assert (described.worker.name, described.load.ready) == ("decode-0", False)
        starting.go.set()
        await probed(worker, "readiness", SERVING)
        assert await probe(worker, "") == SERVING


async def test_a_session_with_a_starting_worker_learns_when_it_is_ready(running, engine, starting):
    async with running(engine=engine) as worker, worker.session(wait=False) as router:
        await router.until(lambda: bool(router.loads))
        assert not router.loads[-1].ready
        assert router.hellos[-1].limits.max_body_bytes == 10 * 2**20
        await router.submit(1, {"words": []})
        assert (await router.end_of(1)).end.code == pb.UNAVAILABLE
        await router.send(pb.Upward(releases=[b"none"], hand_ons=[pb.HandOn(call_id=2, lease=b"none")]))
        assert (await router.end_of(2)).end.code == pb.KV_GONE
        starting.go.set()
        await router.ready()
        assert router.hellos[-1].limits.max_running == 2
        assert router.hellos[-1].layout.block_size == 32


async def test_an_engine_that_does_not_start_ends_the_worker_with_code_1(running, engine, starting, caplog):
    async with running(engine=engine) as worker:
        starting.error = ValueError("no such model: /models/x")
        starting.go.set()
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "the engine did not start: no such model: /models/x"


async def test_a_worker_told_to_end_while_its_engine_starts_ends_well(running, engine, starting):
    async with running(engine=engine) as worker:
        worker.orders.stop.set()
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 0


async def test_a_port_in_use_is_an_error(running, caplog):
    async with running() as worker:
        ports = {"grpc": worker.ports.grpc, "health": 0, "metrics": 0}
        with pytest.raises(asyncio.InvalidStateError):
            async with running(ports=ports):
                pass
    assert any("can't run" in record.getMessage() for record in caplog.records)


async def test_an_engine_that_refuses_its_check_is_not_ready_until_it_passes(running, engine, monkeypatch):
    monkeypatch.setattr(watching, "INTERVAL_SECONDS", 0.01)
    fine = True

    async def check():
        if not fine:
            raise Unavailable("the engine sleeps")

    engine.checking = check
    async with running(engine=engine) as worker, worker.session() as router:
        fine = False
        await router.until(lambda: not router.loads[-1].ready)
        await router.submit(1, {"words": []})
        assert (await router.end_of(1)).end.code == pb.UNAVAILABLE
        assert await probe(worker, "liveness") == SERVING
        fine = True
        await router.ready()


async def test_an_engine_that_is_dead_fails_liveness(running, engine):
    async def check():
        raise EngineDead("its process has ended")

    engine.checking = check
    async with running(engine=engine) as worker:
        await probed(worker, "liveness", NOT_SERVING)
        assert await probe(worker, "readiness") == NOT_SERVING


async def test_draining_takes_no_calls_and_finishes_those_that_run(running, engine):
    async with running(engine=engine, grace_seconds=600) as worker, worker.session() as router:
        async with an_open_call(engine, router):
            worker.orders.stop.set()
            await router.until(lambda: router.loads[-1].draining)
            assert await probe(worker, "readiness") == NOT_SERVING
            assert await probe(worker, "liveness") == SERVING
            await router.submit(2, {"words": []})
            assert (await router.end_of(2)).end.code == pb.UNAVAILABLE
        assert (await router.end_of(1)).data.startswith(b"data: late")
        assert await asyncio.wait_for(router.stream.code(), 60) == grpc.StatusCode.OK
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 0


async def test_a_call_beyond_the_grace_ends_with_a_typed_error(running, engine):
    async with (
        running(engine=engine, grace_seconds=0.1) as worker,
        worker.session() as router,
        an_open_call(engine, router),
    ):
        worker.orders.stop.set()
        assert (await router.end_of(1)).end.code == pb.UNAVAILABLE
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 0


async def test_a_draining_prefill_worker_serves_its_leases_until_they_are_gone(running, engine):
    async with running("prefill", engine=engine, grace_seconds=600) as worker, worker.session() as router:
        await router.submit(1, b"prompt")
        lease = (await router.end_of(1)).end.kv.lease
        worker.orders.stop.set()
        await router.until(lambda: router.loads[-1].draining)
        await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=2, lease=lease)]))
        handed = (await router.end_of(2)).end.kv.lease
        assert not worker.task.done()
        await router.send(pb.Upward(releases=[handed]))
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 0


async def test_drain_over_grpc_says_what_is_left_and_does_not_end_the_process(running, engine):
    async with running(engine=engine) as worker, worker.session() as router, worker.channel() as channel:
        async with an_open_call(engine, router):
            left = await worker.stub(channel).Drain(pb.DrainRequest(), timeout=60)
            assert (left.open_calls, left.leases) == (1, 0)
            await router.until(lambda: router.loads[-1].draining)
        await router.end_of(1)
        assert (await worker.stub(channel).Drain(pb.DrainRequest(), timeout=60)).open_calls == 0
        assert not worker.task.done()


async def test_a_second_order_ends_the_worker_at_once(running, engine):
    async with (
        running(engine=engine, grace_seconds=600) as worker,
        worker.session() as router,
        an_open_call(engine, router),
    ):
        worker.orders.stop.set()
        worker.orders.kill.set()
        assert await asyncio.wait_for(asyncio.shield(worker.task), 60) == 1


async def test_describe_says_what_the_worker_is_and_holds(running, engine):
    async with running("prefill", engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"prompt")
        await router.end_of(1)
        described = await worker.describe()
    assert described.worker == pb.Identity(
        name="prefill-0", role=pb.ROLE_PREFILL, service="default/s", model="m", version="v1", revision="r1"
    )
    assert described.engine == "fake 1"
    assert described.release
    assert (described.limits.max_running, described.limits.max_staged_bytes) == (2, 4096)
    assert described.load.ready
    assert (described.counters["leases"], described.counters["open_calls"]) == (1, 0)
    assert described.totals["calls"] == 1
    assert described.totals["frames"] > 0


async def test_reflection_is_served_where_it_is_switched_on(running):
    async with running(reflection=True) as worker, worker.channel() as channel:
        assert "tandem.v1.DecodeWorker" in await reflected(channel)


async def test_reflection_is_not_served_where_it_is_not(running):
    async with running() as worker, worker.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await reflected(channel)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_load_says_how_many_routers_there_are(running, engine):
    async with running(engine=engine) as worker, worker.session() as router:
        await router.until(lambda: router.loads)
        assert router.loads[0].routers == 1
        async with worker.session():
            await router.until(lambda: router.loads[-1].routers == 2)
        await router.until(lambda: router.loads[-1].routers == 1)


async def test_loads_are_said_at_most_ten_times_a_second_and_when_they_change(running, engine):
    async with running(engine=engine) as worker, worker.session() as router:
        before, began = len(router.loads), time.monotonic()
        for call_id in range(200):
            await router.submit(call_id, {"words": ["a"]})
            await router.end_of(call_id)
        await router.until(lambda: router.loads[-1].open_calls == 0)
        at_most = (time.monotonic() - began) / announcing.LOAD_SECONDS
        assert len(router.loads) - before <= at_most + 2


async def test_a_load_that_does_not_change_is_not_said_again(running, monkeypatch):
    monkeypatch.setattr(announcing, "LOAD_SECONDS", 0.001)
    monkeypatch.setattr(announcing, "HEARTBEAT_SECONDS", 1e9)
    async with running() as worker, worker.session() as router:
        said = len(router.loads)
        for _ in range(20):
            await worker.describe()
        assert len(router.loads) <= said + 1


async def test_a_load_that_does_not_change_is_said_now_and_then(running, monkeypatch):
    monkeypatch.setattr(announcing, "LOAD_SECONDS", 0.001)
    monkeypatch.setattr(announcing, "HEARTBEAT_SECONDS", 0.001)
    async with running() as worker, worker.session() as router:
        said = len(router.loads)
        await router.until(lambda: len(router.loads) > said + 3)
