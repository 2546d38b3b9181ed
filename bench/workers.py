"""Virtual decode workers in one process: what our router relays from while it is measured.

They are out of phase, as workers of a real platform are: the first requests come at different moments of each one's
step. `python -m bench.workers --workers 4 --step 0.02` prints one JSON line with the topology; each line on standard
input is answered with the counts.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry
from tandem_api.inference_service import EngineSpec, RoutingSpec, VirtualEngineSpec
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes, WorkerEndpoint
from tandem_api.worker import Ports, WorkerConfig
from tandem_decode.role import DecodeRole
from tandem_engine.engine import Call, Counters, Engine, Facts, Outcome, Reply
from tandem_engine.factory import build_engine
from tandem_engine.worker.running import BoundPorts, Orders, run_worker
from tandem_proto.channels import aio_channel
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2, worker_pb2_grpc

LATE_SECONDS = 0.005


class Watch:
    """What the source itself knows of its pace."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.chunks = 0
        self.late = 0
        self.ttft: list[float] = []


class TimedReply:
    """A reply that counts chunks, and those that come over 5 ms later than a step after the one before."""

    def __init__(self, reply: Reply, watch: Watch) -> None:
        self._data = reply.data
        self.started = reply.started
        self._watch = watch
        self._asked = self._last = time.perf_counter()

    def data(self, chunk: bytes) -> None:
        now = time.perf_counter()
        watch = self._watch
        watch.chunks += 1
        if self._asked == self._last:
            watch.ttft.append(now - self._asked)
        elif now - self._last > watch.step + LATE_SECONDS:
            watch.late += 1
        self._last = now
        self._data(chunk)


class TimedEngine:
    """An engine whose replies are timed."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self._engine = engine
        self._watch = watch

    async def __aenter__(self) -> "TimedEngine":
        await self._engine.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._engine.__aexit__(kind, error, trace)

    @property
    def facts(self) -> Facts:
        return self._engine.facts

    async def counters(self) -> Counters:
        return await self._engine.counters()

    def load(self) -> Counters:
        return self._engine.load()

    def totals(self) -> Mapping[str, int]:
        return self._engine.totals()

    async def check(self) -> None:
        await self._engine.check()

    async def prefill(self, call: Call) -> Outcome:
        return await self._engine.prefill(call)

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        return await self._engine.generate(call, TimedReply(reply, self._watch))

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        return await self._engine.hand_on(lease)

    def release(self, lease: bytes) -> None:
        self._engine.release(lease)


def worker_config(step: float) -> WorkerConfig:
    virtual = VirtualEngineSpec(
        slots=4096, token_budget=2**20, prefill_token_time=0, decode_step_time=step, blocks=2**16
    )
    return WorkerConfig(
        role="decode",
        service="default/bench",
        model="bench",
        version="v1",
        revision="r1",
        engine=EngineSpec(type="virtual", virtual=virtual),
        kv_transfer={},
        disaggregated=False,
        ports=Ports(grpc=0, health=0, metrics=0, kv=0),
        max_waiting=8192,
    )


def topology(ports: list[int]) -> Topology:
    workers = tuple(
        WorkerEndpoint(name=f"bench-{i}", role="decode", address=f"127.0.0.1:{port}") for i, port in enumerate(ports)
    )
    revision = RevisionEndpoints(name="r1", disaggregated=False, workers=workers)
    routing = RoutingSpec(queue={"maxWaiting": 8192}, policy="roundRobin")
    versions = (VersionRoutes(name="v1", weight=100, revisions=(revision,)),)
    service = ServiceRoutes(name="bench", namespace="default", model="bench", routing=routing, versions=versions)
    return Topology(services=(service,))


async def serve(workers: int, step: float) -> None:
    config, watch = worker_config(step), Watch(step)
    orders = Orders(asyncio.Event(), asyncio.Event())
    loop = asyncio.get_running_loop()

    def build(name: str) -> Engine:
        return TimedEngine(build_engine(config, None, name, "127.0.0.1", None), watch)

    async with asyncio.TaskGroup() as group:
        bound: list[asyncio.Future[BoundPorts]] = [loop.create_future() for _ in range(workers)]
        for index, opened in enumerate(bound):
            group.create_task(start(config, partial(build, f"bench-{index}"), f"bench-{index}", orders, opened))
        ports = [(await opened).grpc for opened in bound]
        print(json.dumps({"topology": topology(ports).model_dump(mode="json", by_alias=True)}), flush=True)
        channels = [aio_channel(f"127.0.0.1:{port}", None) for port in ports]
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await counts(watch, channels)), flush=True)
            watch.ttft.clear()
        for channel in channels:
            await channel.close()
        orders.stop.set()


async def start(
    config: WorkerConfig, build: Callable[[], Engine], name: str, orders: Orders, opened: asyncio.Future[BoundPorts]
) -> None:
    await run_worker(
        config,
        build,
        DecodeRole(),
        host="127.0.0.1",
        name=name,
        tls=None,
        registry=CollectorRegistry(),
        orders=orders,
        bound=opened.set_result,
    )


async def counts(watch: Watch, channels: list[Any]) -> dict[str, Any]:
    """What the workers have sent so far, and what they know of its pace."""
    found = {"chunks": watch.chunks, "late": watch.late, "ttft": watch.ttft, "frames": 0, "events": 0}
    for channel in channels:
        answer = await worker_pb2_grpc.DecodeWorkerStub(channel).Describe(worker_pb2.DescribeRequest(), timeout=10)
        for name in ("frames", "events"):
            found[name] += answer.totals[name]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--step", type=float, default=0.02)
    args = parser.parse_args()
    import uvloop

    uvloop.run(serve(args.workers, args.step))


if __name__ == "__main__":
    main()
