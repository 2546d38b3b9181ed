"""A worker that does what a test tells it: a real server of the worker protocol with a script in place of an engine."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from tandem_api.topology import WorkerEndpoint
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_proto.tandem.v1.worker_pb2_grpc import (
    DecodeWorkerServicer,
    PrefillWorkerServicer,
    add_DecodeWorkerServicer_to_server,
    add_PrefillWorkerServicer_to_server,
)

Script = Callable[["FakeCall"], Awaitable[None]]


@dataclass
class FakeCall:
    """One call, as a script sees it."""

    worker: "FakeWorker"
    submit: pb.Submit
    body: bytes
    session: "asyncio.Queue[pb.Downward]"
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, **parts: Any) -> None:
        """One frame."""
        self.session.put_nowait(pb.Downward(**parts))

    def started(self, content_bytes: int = 0, kv: pb.KvReport | None = None) -> None:
        kind = "application/json" if content_bytes else "text/event-stream; charset=utf-8"
        start = pb.Started(
            call_id=self.submit.call_id, status=200, content_type=kind, content_bytes=content_bytes, kv=kv
        )
        self.say(started=[start])

    def data(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.say(data_calls=[self.submit.call_id], data=[chunk])

    def finished(self, **parts: Any) -> None:
        self.say(finished=[pb.Finished(call_id=self.submit.call_id, **parts)])

    def failed(self, code: "pb.ErrorCode.ValueType", message: str = "it went wrong", **parts: Any) -> None:
        self.say(failed=[pb.Failed(call_id=self.submit.call_id, code=code, message=message, **parts)])


async def prefill_well(call: FakeCall) -> None:
    """Holds KV under a lease and says so."""
    call.finished(kv=call.worker.grant())


def words(*texts: str) -> list[bytes]:
    """SSE events of a chat stream."""
    return [b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode() for text in texts]


async def decode_well(call: FakeCall) -> None:
    """Answers with two words, streamed or whole."""
    report = pb.KvReport(outcome=pb.KvReport.WHOLE, reason=call.submit.whole_reason)
    if call.submit.HasField("kv"):
        kv = call.submit.kv
        report = pb.KvReport(
            outcome=pb.KvReport.TRANSFERRED, connector="grpc", peer=kv.holder, bytes=kv.bytes, blocks=kv.blocks,
            micros=9100,
        )  # fmt: skip
    usage = pb.Usage(prompt_tokens=3, completion_tokens=2)
    if b'"stream":true' in call.body.replace(b" ", b""):
        call.started(kv=report)
        call.data(*words("Hello", " world"), b"data: [DONE]\n\n")
    else:
        body = b'{"id":"%b","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,' % (
            call.submit.response_id.encode()
        )
        body += b'"message":{"role":"assistant","content":"Hello world"},"finish_reason":"stop"}],'
        body += b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
        call.started(content_bytes=len(body), kv=report)
        call.data(body[:20], body[20:])
    call.finished(usage=usage, finish_reason="stop")


async def hang(call: FakeCall) -> None:
    """Says nothing until it is cancelled."""
    await call.cancelled.wait()


def fail_with(code: "pb.ErrorCode.ValueType", message: str = "it went wrong", **parts: Any) -> Script:
    """Fails at once."""

    async def script(call: FakeCall) -> None:
        call.failed(code, message, **parts)

    return script


class FakeWorker(PrefillWorkerServicer, DecodeWorkerServicer):
    """Both services in one; which one it is, is in its endpoint."""

    def __init__(self, role: str, name: str, script: Script, limits: pb.Limits, identity: pb.Identity) -> None:
        self.role = role
        self.name = name
        self.script = script
        self.limits = limits
        self.identity = identity
        self.features: tuple[str, ...] = ()
        """None, as of a worker of the first release."""
        self.calls: list[FakeCall] = []
        self.open: dict[int, FakeCall] = {}
        self.leases: set[bytes] = set()
        self.handed_on: list[bytes] = []
        self.messages: list[pb.Upward] = []
        self.sessions: list[asyncio.Queue[pb.Downward | None]] = []
        self.hand_on_fails = False
        self.load = pb.Load(ready=True, total_blocks=100, free_blocks=100)
        self.endpoint: WorkerEndpoint
        self.changed = asyncio.Condition()
        self._numbers = itertools.count(1)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something that the router does makes it true."""
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(holds)

    def grant(self) -> kv_pb2.KvHandle:
        lease = next(self._numbers).to_bytes(16, "big")
        self.leases.add(lease)
        return kv_pb2.KvHandle(lease=lease, holder=self.name, bytes=2048, blocks=2, tokens=40, connector="grpc")

    def report(self, **changes: Any) -> None:
        """Tells all routers a load."""
        for name, value in changes.items():
            setattr(self.load, name, value)
        for session in self.sessions:
            session.put_nowait(pb.Downward(load=self.load))

    def drop_sessions(self) -> None:
        """Ends them as if the worker had died, but goes on listening."""
        for session in self.sessions:
            session.put_nowait(None)

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Downward]:  # noqa: N802
        hello = await anext(aiter(request_iterator))
        assert hello.HasField("hello")
        said: asyncio.Queue[Any] = asyncio.Queue()
        self.sessions.append(said)
        about = {"worker": self.identity, "limits": self.limits, "features": self.features}
        yield pb.Downward(hello=pb.Hello(protocol_min=1, protocol_max=1, **about))
        yield pb.Downward(load=self.load)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(request_iterator, said, tasks))
            try:
                while (frame := await said.get()) is not None:
                    yield frame
            finally:
                self.sessions.remove(said)
                reading.cancel()
                for call in self.open.values():
                    call.cancelled.set()
                self.open.clear()
                for task in list(getattr(tasks, "_tasks", ())):
                    task.cancel()

    async def _read(self, messages: Any, said: Any, tasks: asyncio.TaskGroup) -> None:
        bodies: dict[int, tuple[pb.Submit, bytearray]] = {}
        async for message in messages:
            self.messages.append(message)
            for call_id in message.cancels:
                bodies.pop(call_id, None)
                if (call := self.open.pop(call_id, None)) is not None:
                    call.cancelled.set()
            for submit in message.submits:
                bodies[submit.call_id] = (submit, bytearray(submit.body))
            for piece in message.pieces:
                bodies[piece.call_id][1].extend(piece.data)
            for call_id, (submit, body) in list(bodies.items()):
                if len(body) == submit.body_bytes:
                    del bodies[call_id]
                    call = FakeCall(self, submit, bytes(body), said)
                    self.calls.append(call)
                    self.open[call_id] = call
                    tasks.create_task(self._run(call))
            for hand_on in message.hand_ons:
                self._hand_on(hand_on, said)
            self.leases -= set(message.releases)
            async with self.changed:
                self.changed.notify_all()
        said.put_nowait(None)

    async def _run(self, call: FakeCall) -> None:
        await self.script(call)
        self.open.pop(call.submit.call_id, None)
        async with self.changed:
            self.changed.notify_all()

    def _hand_on(self, hand_on: pb.HandOn, said: Any) -> None:
        if self.hand_on_fails or hand_on.lease not in self.leases:
            failed = pb.Failed(call_id=hand_on.call_id, code=pb.KV_GONE, message="the lease has expired")
            said.put_nowait(pb.Downward(failed=[failed]))
            return
        self.leases.remove(hand_on.lease)
        self.handed_on.append(hand_on.lease)
        said.put_nowait(pb.Downward(finished=[pb.Finished(call_id=hand_on.call_id, kv=self.grant())]))

    @asynccontextmanager
    async def serving(self, address: str = "127.0.0.1:0") -> AsyncIterator["FakeWorker"]:
        server = grpc.aio.server()
        if self.role == "prefill":
            add_PrefillWorkerServicer_to_server(self, server)
        else:
            add_DecodeWorkerServicer_to_server(self, server)
        port = server.add_insecure_port(address)
        host = address.rpartition(":")[0]
        self.endpoint = WorkerEndpoint(name=self.name, role=self.role, address=f"{host}:{port}")  # type: ignore[arg-type]
        await server.start()
        self._server = server
        try:
            yield self
        finally:
            await server.stop(0)

    async def die(self) -> None:
        """Stops listening, too."""
        await self._server.stop(0)
