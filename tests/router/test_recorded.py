"""What workers of the first release said, as this router hears it: releases of a major version talk to each other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import json_format
from tandem_api.topology import WorkerEndpoint
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.failures import CallFailed
from tandem_router.scheduling.worker import Worker

from tests.router.house import until
from tests.worker.recording import RECORDED, meaning, read_frames


class Hearing:
    """A call that keeps what its link tells it, as the frames that it was told by."""

    def __init__(self) -> None:
        self.call_id = 0
        self.frames: list[pb.Downward] = []
        self.over = False

    def started(self, started: pb.Started) -> None:
        self.frames.append(pb.Downward(started=[started]))

    def data(self, chunk: bytes) -> None:
        self.frames.append(pb.Downward(data_calls=[self.call_id], data=[chunk]))

    def finished(self, finished: pb.Finished) -> None:
        self._end(pb.Downward(finished=[finished]))

    def failed(self, failure: CallFailed) -> None:
        told = pb.Failed(
            call_id=self.call_id, code=failure.code, message=failure.message, param=failure.param, type=failure.type
        )
        self._end(pb.Downward(failed=[told]))

    def _end(self, frame: pb.Downward) -> None:
        assert not self.over, "a call ends once"
        self.over = True
        self.frames.append(frame)


@asynccontextmanager
async def replaying(role: str, frames: list[pb.Downward], calls: int) -> AsyncIterator[str]:
    """A worker that greets, waits for so many calls, and then says what was recorded."""

    async def session(messages: AsyncIterator[pb.Upward], context: Any) -> AsyncIterator[pb.Downward]:
        assert (await anext(messages)).hello.protocol_min == 1
        yield frames[0]
        submitted = 0
        while submitted < calls:
            submitted += len((await anext(messages)).submits)
        for frame in frames[1:]:
            yield frame
        await anext(messages, None)

    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(session, pb.Upward.FromString, pb.Downward.SerializeToString)
    service = f"tandem.v1.{role.capitalize()}Worker"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Session": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("version", sorted(RECORDED.parent.iterdir()), ids=lambda folder: folder.name)
@pytest.mark.parametrize(("name", "role"), [("decode", "decode"), ("prefill", "prefill"), ("later", "decode")])
async def test_a_recorded_worker_is_understood_as_it_was(version: Path, name: str, role: str) -> None:
    said = read_frames(version / f"{name}.downward", pb.Downward)
    meant = json.loads((version / f"{name}.json").read_text())
    identity = json_format.ParseDict(meant["hello"]["worker"], pb.Identity())
    legs = [Hearing() for _ in range(max(map(int, meant["calls"])))]
    async with replaying(role, said, len(legs)) as address:
        endpoint = WorkerEndpoint.model_validate({"name": identity.name, "role": role, "address": address})
        worker = Worker(endpoint, identity, router="r", tls=None, clock=float, changed=lambda: None)
        running = asyncio.create_task(worker.link.run())
        await until(lambda: worker.ready)
        assert worker.capacity == meant["hello"].get("limits", {}).get("max_running", 0)
        for leg in legs:
            leg.call_id = worker.link.submit(pb.Submit(response_id="r", api=pb.API_CHAT_COMPLETIONS), b"{}", leg)
        await until(lambda: {str(leg.call_id) for leg in legs if leg.over} == meant["calls"].keys())
        heard = meaning(frame for leg in legs for frame in leg.frames)
        worker.link.close()
        await running
    assert heard["calls"] == meant["calls"]
