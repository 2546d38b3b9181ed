"""A lease lasts while the call that wants its KV waits, and no longer."""

import asyncio
from collections.abc import Iterator

import pytest
from tandem_engine.kv.client import KvClient
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.renewing import renewing
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_proto.tandem.v1 import kv_pb2

from tests.loopback import free_port

LEASE, TTL = b"l" * 16, 60.0


class Held:
    """A staged prompt, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.staging = Staging(LeaseLimits(max_bytes=64, max_fetches=1, ttl=TTL), lambda: self.now)
        self.staging.stage(LEASE, StagedKv(b"h", 1, 1, 8, [b"12345678"]))
        self.address = ""

    def handle(self) -> kv_pb2.KvHandle:
        """Of so short a time that renewals follow each other at once; the holder's clock has its own."""
        return kv_pb2.KvHandle(addresses=[self.address], lease=LEASE, ttl_ms=30)

    async def renewed(self) -> None:
        async with asyncio.timeout(60):
            while self.staging.remaining(LEASE) < TTL:
                await asyncio.sleep(0.01)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    with KvServer(held.staging, "127.0.0.1:0") as server:
        held.address = f"127.0.0.1:{server.port}"
        yield held


async def test_a_lease_lasts_while_its_call_waits(held: Held) -> None:
    with KvClient() as client:
        async with renewing(client, held.handle()):
            for _ in range(5):
                held.now += 0.9 * TTL
                await held.renewed()
    held.now += TTL
    assert held.staging.remaining(LEASE) == 0


async def test_it_is_not_renewed_once_the_kv_is_here(held: Held) -> None:
    with KvClient() as client:
        async with renewing(client, held.handle()) as kv_is_here:
            held.now += 0.5 * TTL
            await held.renewed()
            kv_is_here()
            await asyncio.sleep(0)  # the renewal's task ends in its next turn; nothing begins another
            held.now += TTL
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "kv lease renewal"]
    assert held.staging.counts().leases == 0


async def test_a_holder_that_does_not_answer_is_asked_again(held: Held) -> None:
    handle = held.handle()
    handle.addresses[0] = address = f"127.0.0.1:{free_port()}"
    with KvClient() as client:
        with pytest.raises(ConnectionError):
            client.renew(address, LEASE, timeout=30)
        async with renewing(client, handle):
            await asyncio.sleep(0.1)  # for some that fail
            held.now += 0.9 * TTL
            with KvServer(held.staging, address):
                await held.renewed()


async def test_a_lease_that_is_gone_is_left_alone(held: Held) -> None:
    held.staging.release(LEASE)
    with KvClient() as client:
        async with renewing(client, held.handle()), asyncio.timeout(60):
            while [task for task in asyncio.all_tasks() if task.get_name() == "kv lease renewal"]:
                await asyncio.sleep(0.01)
    assert held.staging.counts().leases == 0
