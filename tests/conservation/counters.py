"""Every counter of a platform, as its workers and its router report them, and whether they are back where they were."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
import grpc
import grpc.aio
from tandem_proto.channels import aio_channel
from tandem_proto.tandem.v1 import worker_pb2, worker_pb2_grpc

Counters = Mapping[str, int]
"""By "worker/counter" and "router/series"."""

HELD = frozenset({"active_requests", "tandem_router_queued", "tandem_router_placed", "tandem_router_leases"})
"""The router's metrics of what its requests hold. `active_requests` counts the one that reads it."""
COUNTED = frozenset({"tandem_router_kv_outcomes_total", "tandem_router_clients_cut_off_total"})
"""The router's metrics of what befell its requests."""
UNTIL_LABELLED = frozenset({"tandem_router_kv_outcomes_total"})
"""Those without a series before there is something to count."""


@dataclass(frozen=True)
class WorkerAddress:
    """Where a worker listens, for Describe."""

    name: str
    role: str
    address: str


@dataclass(frozen=True)
class Reading:
    """All counters of one moment."""

    held: Counters
    """What must come back to where it was."""
    totals: Counters
    """What only grows, but for a worker that is started again."""


READ_SECONDS = 60.0
"""For a worker to tell its counters, also one whose engine is held up: it says so, and is asked again."""


async def describe(channel: grpc.aio.Channel, role: str) -> worker_pb2.DescribeResponse:
    stub = (worker_pb2_grpc.PrefillWorkerStub if role == "prefill" else worker_pb2_grpc.DecodeWorkerStub)(channel)
    end = time.monotonic() + READ_SECONDS
    while True:
        try:
            return await stub.Describe(worker_pb2.DescribeRequest(), timeout=READ_SECONDS, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


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

    async def read(self) -> Reading:
        """All of them, now.

        Raises:
            grpc.aio.AioRpcError, aiohttp.ClientError: somebody does not answer.
            LookupError: the router has not the metrics that are to be watched.
        """
        answers = await asyncio.gather(*(describe(c, w.role) for w, c in self._channels.items()))
        router = await self._router()
        held = {f"router/{series}": value for series, value in router.items() if _name(series) in HELD}
        totals = {f"router/{series}": value for series, value in router.items() if _name(series) in COUNTED}
        for worker, answer in zip(self._channels, answers, strict=True):
            held |= {f"{worker.name}/{name}": value for name, value in answer.counters.items()}
            totals |= {f"{worker.name}/{name}": value for name, value in answer.totals.items()}
        return Reading(held, totals)

    async def cut_off(self) -> int:
        """Clients so far that the router cut off, because they did not read."""
        return (await self._router())["tandem_router_clients_cut_off_total"]

    async def settle(self, rest: Counters, within: float) -> tuple[Reading, dict[str, tuple[int | None, int | None]]]:
        """Waits until all that is held is as at rest again: the last reading, and what is off: (at rest, now)."""
        end = time.monotonic() + within
        while True:
            last = time.monotonic() > end  # before it is read: nobody is blamed for a reading that was slow to come
            reading = await self.read()
            now = reading.held
            off = {k: (rest.get(k), now.get(k)) for k in rest.keys() | now.keys() if rest.get(k) != now.get(k)}
            if not off or last:
                return reading, off
            await asyncio.sleep(0.01)

    async def _router(self) -> Counters:
        async with self._session.get(self._url + "/metrics") as response:
            lines = (line.rpartition(" ") for line in (await response.text()).splitlines())
        found = {series: round(float(value)) for series, _, value in lines if _name(series) in HELD | COUNTED}
        missing = (HELD | COUNTED) - UNTIL_LABELLED - {_name(series) for series in found}
        if missing:
            raise LookupError(f"{self._url}/metrics has no {', '.join(sorted(missing))}: storms would miss what leaks")
        return found


def _name(series: str) -> str:
    return series.partition("{")[0]
