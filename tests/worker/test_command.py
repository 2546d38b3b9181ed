"""The programs `tandem_prefill` and `tandem_decode`, as processes with the virtual engine."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from tandem_engine.worker.command import read_config
from tandem_proto.channels import aio_channel
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.worker.conftest import Router, config

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}


class Process:
    """A worker's process and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict] = []

    async def line(self, message: str) -> dict:
        """The next line of the log whose message begins so."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while raw := await self.process.stderr.readline():
                self.log.append(json.loads(raw))
                if self.log[-1]["message"].startswith(message):
                    return self.log[-1]
        raise AssertionError(f"the log ended without {message!r}: {self.log}")

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Process]]:
    """Starts a program with a configuration."""

    @asynccontextmanager
    async def start(
        role: str, name: str = "pod-0", environ: Mapping[str, str] = os.environ, **changes: object
    ) -> AsyncIterator[Process]:
        file = tmp_path / f"{role}.json"
        file.write_text(config(role, **changes).model_dump_json(by_alias=True))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"tandem_{role}", "--config", str(file)),
            env={**environ, "POD_NAME": name},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield Process(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return start


@asynccontextmanager
async def a_session(worker: Process, role: str) -> AsyncIterator[Router]:
    """A session with a worker that is ready, left when the worker has ended it."""
    ports = await worker.line("listening")
    await worker.line("the engine can answer")
    async with aio_channel(f"127.0.0.1:{ports['grpc']}", None) as channel:
        service = f"/tandem.v1.{role.capitalize()}Worker/Session"
        router = Router(channel.stream_stream(service, pb.Upward.SerializeToString, pb.Downward.FromString)())
        reading = asyncio.create_task(router.read())
        await router.send(pb.Upward(hello=pb.Hello(protocol_min=1, protocol_max=1, router="r")))
        await router.ready()
        yield router
        await asyncio.wait_for(reading, 60)


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_worker_answers_and_ends_well_when_it_is_told_to(program, role):
    async with program(role, grace_seconds=600) as worker:
        async with a_session(worker, role) as router:
            assert router.hellos[-1].worker.name == "pod-0"
            await router.submit(1, CHAT)
            call = await router.end_of(1)
            assert isinstance(call.end, pb.Finished), call.end
            worker.process.send_signal(signal.SIGTERM)
            await router.until(lambda: router.loads[-1].draining)
            if call.end.kv.lease:
                await router.send(pb.Upward(releases=[call.end.kv.lease]))
        assert router.failure is None
        assert await worker.ended() == 0
    if role == "decode":
        assert call.data.endswith(b"data: [DONE]\n\n")


async def test_a_second_signal_ends_a_worker_at_once(program):
    async with program("prefill", grace_seconds=600) as worker:
        async with a_session(worker, "prefill") as router:
            await router.submit(1, CHAT)
            assert (await router.end_of(1)).end.kv.lease  # which a draining worker holds on to
            worker.process.send_signal(signal.SIGINT)
            await worker.line("draining")
            worker.process.send_signal(signal.SIGINT)
        assert await worker.ended() == 1


async def test_spans_go_to_the_endpoint_that_is_configured(program):
    exported: asyncio.Queue[trace_service_pb2.ExportTraceServiceRequest] = asyncio.Queue()

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request, context):  # noqa: N802 - the protocol's name
            exported.put_nowait(request)
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), collector)
    port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    async with program("decode", environ=environ) as worker:
        async with a_session(worker, "decode") as router:
            await router.submit(1, CHAT, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            await router.end_of(1)
            worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
    await collector.stop(None)
    (of_resource,) = exported.get_nowait().resource_spans
    (span,) = (span for of_scope in of_resource.scope_spans for span in of_scope.spans if span.name == "decode")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    attributes = {item.key: item.value.string_value for item in of_resource.resource.attributes}
    assert (attributes["service.name"], attributes["service.instance.id"]) == ("tandem-decode", "pod-0")


async def test_an_engine_that_can_not_start_says_so_in_one_line_and_ends_with_code_1(program):
    async with program("decode", engine={"type": "vllm"}) as worker:
        failed = await worker.line("the engine did not start")
        assert "give --model-dir" in failed["message"]
        assert (failed["level"], failed["worker"]) == ("error", "pod-0")
        assert await worker.ended() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("role: decode", "service"),
        (config("prefill").model_dump_json(by_alias=True), "is for a prefill worker; this program is a decode worker"),
        ("{", "is not a worker's configuration"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, text, said):
    file = tmp_path / "worker.yaml"
    file.write_text(text)
    with pytest.raises(Exception, match=said):
        read_config(file, "decode")
