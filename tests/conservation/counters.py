"""Every counter of a platform, as its workers and its router report them, and whether they are back where they were."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import grpc.aio
from tandem_proto.channels import aio_channel
from tandem_proto.tandem.v1 import worker_pb2, worker_pb2_grpc

Counters = Mapping[str, int]
"""By "worker/counter" and "router/counter"."""


@dataclass(frozen=True)
class WorkerAddress:
    """Where a worker listens, for Describe."""

    name: str
    role: str
    address: str


async def describe(channel: grpc.aio.Channel, role: str) -> worker_pb2.DescribeResponse:
    stub = worker_pb2_grpc.PrefillWorkerStub if role == "prefill" else worker_pb2_grpc.DecodeWorkerStub
    return await stub(channel).Describe(worker_pb2.DescribeRequest(), timeout=30, wait_for_ready=True)


class Observer:
    """Reads all counters of a platform. Its channels live as long as it does."""

    def __init__(self, session: aiohttp.ClientSession, url: str, workers: list[WorkerAddress]) -> None:
        self._session = session
        self._url = url
        self._channels = {worker: aio_channel(worker.address, None) for worker in workers}

    async def __aenter__(self) -> "Observer":
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def counters(self) -> Counters:
        """All of them, now.

        Raises:
            grpc.aio.AioRpcError, aiohttp.ClientError: somebody does not answer.
        """
        found: dict[str, int] = {}
        answers = await asyncio.gather(*(describe(c, w.role) for w, c in self._channels.items()))
        for worker, answer in zip(self._channels, answers, strict=True):
            found |= {f"{worker.name}/{name}": value for name, value in answer.counters.items()}
        async with self._session.get(self._url + "/tandem/v1/status") as response:
            status = await response.json()
        found["router/queued"] = sum(service["queued"] for service in status["services"])
        async with self._session.get(self._url + "/metrics") as response:
            for line in (await response.text()).splitlines():
                name, _, value = line.partition(" ")
                if name.partition("{")[0] in ("active_requests", "tandem_router_reserved_places"):
                    found[f"router/{name}"] = round(float(value))
        return found

    async def settle(self, rest: Counters, within: float) -> dict[str, tuple[int | None, int | None]]:
        """Waits until all counters are at rest again, and returns those that are not by then: (at rest, now)."""
        end = time.monotonic() + within
        while True:
            now = await self.counters()
            off = {k: (rest.get(k), now.get(k)) for k in rest.keys() | now.keys() if rest.get(k) != now.get(k)}
            if not off or time.monotonic() > end:
                return off
            await asyncio.sleep(0.01)
