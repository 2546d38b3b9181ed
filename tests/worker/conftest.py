"""A worker on loopback with an engine that does what a test tells it, and a router that speaks to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry
from tandem_api.worker import WorkerConfig
from tandem_decode.role import DecodeRole
from tandem_engine.engine import Call, Counters, Facts, Outcome, Reply
from tandem_engine.errors import KvGone
from tandem_engine.worker import BoundPorts, Orders, run_worker
from tandem_prefill.role import PrefillRole
from tandem_proto.channels import Tls, aio_channel
from tandem_proto.protocol import MAX_MESSAGE_BYTES
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_proto.tandem.v1.worker_pb2_grpc import DecodeWorkerStub, PrefillWorkerStub

from tests.worker import recording

SECONDS = 60.0


@dataclass
class FakeEngine:
    """An engine whose parts a test replaces. Its own answers are those of `echo`."""

    facts: Facts = field(
        default_factory=lambda: Facts("fake 1", kv_pb2.KvLayout(engine="virtual", block_size=32), 1024, 2, 100, 4096)
    )
    starting: Callable[[], Awaitable[None]] | None = None
    checking: Callable[[], Awaitable[None]] | None = None
    answering: Callable[[Call, Reply], Awaitable[Outcome]] | None = None
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    entered: int = 0
    leases: set[bytes] = field(default_factory=set)
    moved: int = 0

    async def __aenter__(self) -> "FakeEngine":
        if self.starting is not None:
            await self.starting()
        self.entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered -= 1

    async def counters(self) -> Counters:
        return self.load()

    def load(self) -> Counters:
        return Counters(running=self.running, leases=len(self.leases), free_blocks=max(0, 100 - self.running))

    def totals(self) -> dict[str, int]:
        return {"calls": len(self.calls), "moved": self.moved}

    async def check(self) -> None:
        if self.checking is not None:
            await self.checking()

    async def prefill(self, call: Call) -> Outcome:
        self.calls.append(call)
        if self.answering is not None:
            return await self.answering(call, None)
        lease = call.response_id.encode()
        self.leases.add(lease)
        usage = pb.Usage(prompt_tokens=len(call.body))
        return Outcome(usage, kv=kv_pb2.KvHandle(lease=lease, model="m", tokens=len(call.body)))

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        self.calls.append(call)
        self.running += 1
        try:
            if self.answering is not None:
                return await self.answering(call, reply)
            return await echo(call, reply)
        finally:
            self.running -= 1

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        if lease not in self.leases:
            raise KvGone("The lease has expired.")
        self.leases.remove(lease)
        self.leases.add(lease + b"+")
        return kv_pb2.KvHandle(lease=lease + b"+")

    def release(self, lease: bytes) -> None:
        self.leases.discard(lease)


async def echo(call: Call, reply: Reply) -> Outcome:
    """Streams the words of the body {"words": [...]}, each in a turn of the loop of its own."""
    words = json.loads(call.body)["words"]
    kv = pb.KvReport(outcome=pb.KvReport.WHOLE, reason=call.whole_reason)
    reply.started(200, "text/event-stream; charset=utf-8", 0, kv)
    for word in words:
        reply.data(f"data: {word}\n\n".encode())
        await asyncio.sleep(0)
    reply.data(b"data: [DONE]\n\n")
    return Outcome(pb.Usage(prompt_tokens=3, completion_tokens=len(words)), "stop")


async def look_until(so: Callable[[], Awaitable[bool]]) -> None:
    """Returns when a look says so."""
    async with asyncio.timeout(SECONDS):
        while True:
            if await so():
                return
            await asyncio.sleep(0.01)


@dataclass
class Heard:
    """What a router has heard of one call."""

    started: pb.Started | None = None
    data: bytes = b""
    end: pb.Finished | pb.Failed | None = None
    order: list[str] = field(default_factory=list)


class Router:
    """The other end of a session: keeps all frames, and what they say of each call."""

    def __init__(self, stream: "grpc.aio.StreamStreamCall[pb.Upward, pb.Downward]") -> None:
        self.stream = stream
        self.frames: list[pb.Downward] = []
        self.calls: dict[int, Heard] = {}
        self.loads: list[pb.Load] = []
        self.hellos: list[pb.Hello] = []
        self._more = asyncio.Condition()
        self.failure: grpc.aio.AioRpcError | None = None

    async def send(self, message: pb.Upward) -> None:
        await self.stream.write(message)

    async def submit(self, call_id: int, body: bytes | dict, **fields: object) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"response_id": f"r{call_id}", "api": pb.API_CHAT_COMPLETIONS, "body_bytes": len(raw)} | fields
        await self.send(pb.Upward(submits=[pb.Submit(call_id=call_id, body=raw, **fields)]))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._more:
            await self._more.wait_for(condition)

    async def end_of(self, call_id: int) -> Heard:
        await self.until(lambda: call_id in self.calls and self.calls[call_id].end is not None)
        return self.calls[call_id]

    async def ready(self) -> None:
        await self.until(lambda: bool(self.loads) and self.loads[-1].ready)

    async def read(self) -> None:
        try:
            async for frame in self.stream:
                async with self._more:
                    self._take(frame)
                    self._more.notify_all()
        except grpc.aio.AioRpcError as error:
            self.failure = error
        async with self._more:
            self._more.notify_all()

    def _take(self, frame: pb.Downward) -> None:
        assert frame.ByteSize() <= MAX_MESSAGE_BYTES
        self.frames.append(frame)
        if frame.HasField("hello"):
            self.hellos.append(frame.hello)
        for started in frame.started:
            self._call(started.call_id, "started").started = started
        for call_id, data in zip(frame.data_calls, frame.data, strict=True):
            self._call(call_id, "data").data += data
        for end in (*frame.finished, *frame.failed):
            self._call(end.call_id, "end").end = end
        if frame.HasField("load"):
            self.loads.append(frame.load)

    def _call(self, call_id: int, event: str) -> Heard:
        call = self.calls.setdefault(call_id, Heard())
        assert call.end is None, "a call speaks after its end"
        call.order.append(event)
        return call


@dataclass
class Worker:
    """A running worker, as a test sees it."""

    engine: FakeEngine
    ports: BoundPorts
    orders: Orders
    registry: CollectorRegistry
    task: "asyncio.Task[int]"
    role: str
    tls: Tls | None

    def channel(self, port: int | None = None) -> grpc.aio.Channel:
        return aio_channel(f"127.0.0.1:{port or self.ports.grpc}", self.tls if port is None else None)

    def stub(self, channel: grpc.aio.Channel) -> DecodeWorkerStub | PrefillWorkerStub:
        return PrefillWorkerStub(channel) if self.role == "prefill" else DecodeWorkerStub(channel)

    async def describe(self) -> pb.DescribeResponse:
        async with self.channel() as channel:
            return await self.stub(channel).Describe(pb.DescribeRequest(), timeout=SECONDS)

    @asynccontextmanager
    async def session(self, name: str = "router-0", *, wait: bool = True) -> AsyncIterator[Router]:
        """A session, its Hello said; with `wait`, once the worker is ready."""
        async with self.channel() as channel:
            router = Router(self.stub(channel).Session())
            reading = asyncio.create_task(router.read())
            try:
                await router.send(pb.Upward(hello=pb.Hello(protocol_min=1, protocol_max=1, router=name)))
                if wait:
                    await router.ready()
                yield router
            finally:
                router.stream.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def at_rest(self) -> None:
        """Returns when nothing is open any more."""

        async def rests() -> bool:
            counters = (await self.describe()).counters
            return not counters["open_calls"] and not counters["outbox_bytes"] and not counters["running"]

        await look_until(rests)


def config(role: str, **changes: object) -> WorkerConfig:
    ports = {"grpc": 0, "health": 0, "metrics": 0, "kv": 0}
    plain = {"role": role, "service": "default/s", "model": "m", "version": "v1", "revision": "r1", "ports": ports}
    plain |= {"engine": {"type": "virtual"}, "kv_transfer": {}, "grace_seconds": 0}
    return WorkerConfig.model_validate(plain | changes)


@asynccontextmanager
async def running_worker(
    role: str = "decode", engine: FakeEngine | None = None, tls: Tls | None = None, **changes: object
) -> AsyncIterator[Worker]:
    """Runs a worker while entered, with `changes` to its configuration."""
    engine = engine or FakeEngine()
    orders = Orders(asyncio.Event(), asyncio.Event())
    registry = CollectorRegistry()
    bound: asyncio.Future[BoundPorts] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        run_worker(
            config(role, **changes),
            lambda: engine,
            PrefillRole() if role == "prefill" else DecodeRole(),
            host="127.0.0.1",
            name=f"{role}-0",
            tls=tls,
            registry=registry,
            orders=orders,
            bound=bound.set_result,
        )
    )
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.wait({task, bound}, return_when=asyncio.FIRST_COMPLETED)
        yield Worker(engine, bound.result(), orders, registry, task, role, tls)
    finally:
        orders.stop.set()
        async with asyncio.timeout(SECONDS):
            await task
        assert engine.entered == 0


async def converse(role: str, messages: list[pb.Upward]) -> list[pb.Downward]:
    """Says recorded messages, the first of which is a Hello, to a worker with the recorded sessions' engine."""
    engine = FakeEngine(answering=recording.answer, leases={b"held"})
    async with running_worker(role, engine) as worker, worker.channel() as channel:
        router = Router(worker.stub(channel).Session())
        reading = asyncio.create_task(router.read())
        await router.send(messages[0])
        await router.ready()
        await router.until(lambda: router.hellos[-1].limits.max_running > 0)
        for message in messages[1:]:
            await router.send(message)
        for call_id in recording.SENT[role]:
            await router.end_of(call_id)
        await router.stream.done_writing()
        await reading
        return router.frames


@pytest.fixture
def running() -> Callable[..., AbstractAsyncContextManager[Worker]]:
    """A context manager that runs a worker: `async with running("decode", engine=...) as worker`."""
    return running_worker


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Waits for what only looking can tell."""
    return look_until
