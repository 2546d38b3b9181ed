"""Tries to get at a worker, and prints as JSON what came of it. A program of its own: grpc keeps its threads.

`python -m tests.end_to_end.intruder ROLE HOST:PORT [--kv HOST:PORT] [--tls FOLDER] [--leases-of MODEL]`
"""

import argparse
import asyncio
import json
from pathlib import Path

import grpc
import grpc.aio
from tandem_proto.channels import Tls, aio_channel
from tandem_proto.tandem.v1 import kv_pb2, kv_pb2_grpc
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_proto.tandem.v1.worker_pb2_grpc import DecodeWorkerStub, PrefillWorkerStub

from tests.worker.conftest import Router
from tests.worker.reflecting import reflected

SECONDS = 60
MESSAGES = [{"role": "user", "content": "A secret of some length. " * 20}]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("prefill", "decode"))
    parser.add_argument("address")
    parser.add_argument("--kv")
    parser.add_argument("--tls", type=Path)
    parser.add_argument("--leases-of", metavar="MODEL")
    asked = parser.parse_args()
    tls = Tls(asked.tls) if asked.tls else None
    async with aio_channel(asked.address, tls) as worker, aio_channel(asked.kv or asked.address, tls) as kv:
        found = {"describe": await describe(asked.role, worker), "reflection": await reflect(worker)}
        if asked.kv:
            found["never given"] = await fetch(kv, b"x" * 16, b"h" * 32)
        if asked.leases_of:
            found |= await leases(worker, kv, asked.leases_of)
    print(json.dumps(found))


async def describe(role: str, channel: grpc.aio.Channel) -> str:
    stub = PrefillWorkerStub(channel) if role == "prefill" else DecodeWorkerStub(channel)
    try:
        await stub.Describe(pb.DescribeRequest(), timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def reflect(channel: grpc.aio.Channel) -> str:
    try:
        await reflected(channel)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def leases(worker: grpc.aio.Channel, kv: grpc.aio.Channel, model: str) -> dict[str, str]:
    """As a router would: has a prompt prefilled, hands the lease on, and gives it back."""
    router = Router(PrefillWorkerStub(worker).Session())
    reading = asyncio.create_task(router.read())
    await router.send(pb.Upward(hello=pb.Hello(protocol_min=1, protocol_max=1, router="one")))
    await router.ready()
    await router.submit(1, {"model": model, "messages": MESSAGES, "max_tokens": 1})
    ended = (await router.end_of(1)).end
    assert isinstance(ended, pb.Finished), ended
    first, content = ended.kv.lease, ended.kv.content_hash
    found = {"given": await fetch(kv, first, content), "other content": await fetch(kv, first, b"h" * 32)}
    await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=2, lease=first)]))
    handed = (await router.end_of(2)).end
    assert isinstance(handed, pb.Finished), handed
    found["handed on"] = await fetch(kv, first, content)
    found["its next bits"] = await fetch(kv, handed.kv.lease, content)
    await router.send(pb.Upward(releases=[handed.kv.lease]))
    async with asyncio.timeout(SECONDS):
        while (code := await fetch(kv, handed.kv.lease, content)) == "OK":
            await asyncio.sleep(0.05)
    found["released"] = code
    router.stream.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return found


async def fetch(channel: grpc.aio.Channel, lease: bytes, content: bytes) -> str:
    request = kv_pb2.FetchRequest(lease=lease, content_hash=content)
    try:
        async for _ in kv_pb2_grpc.KvTransferStub(channel).Fetch(request, timeout=SECONDS):
            pass
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


if __name__ == "__main__":
    asyncio.run(main())
