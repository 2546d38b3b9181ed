"""One router's session: a reader, a writer, and the calls in between, all owned by one task group.

When the session ends, by whatever way, its calls are cancelled and have ended before `Session.run` returns.
"""

import asyncio
import logging

import grpc
import grpc.aio
from tandem_proto.protocol import EMBEDDINGS, MESSAGES, PROTOCOL_MAX, PROTOCOL_MIN, RESPONSES
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.errors import CallError, InvalidRequest, KvGone
from tandem_engine.worker.call import OpenCall
from tandem_engine.worker.outbox import Lane, Outbox
from tandem_engine.worker.sending import Sender, SlowRouter
from tandem_engine.worker.state import WorkerState

HELLO_SECONDS = 10.0
"""How long a router may take for its Hello."""
HAND_ON_SECONDS = 10.0
"""How long an engine may take to hand a lease on."""
FLUSH_SECONDS = 5.0
"""How long the last frames may take when a session is closed."""
OUTBOX_BYTES = 128 * 2**20
"""What a router may leave unread before its session is ended."""

Context = grpc.aio.ServicerContext[pb.Upward, pb.Downward]

log = logging.getLogger(__name__)


class _End(Exception):
    """How the session ended: a label for metrics, and what the router is told."""

    def __init__(self, label: str, code: grpc.StatusCode = grpc.StatusCode.OK, text: str = "") -> None:
        super().__init__(label)
        self.label = label
        self.code = code
        self.text = text


class Session:
    """Serves one stream. `close` may be called while it runs, from another task."""

    def __init__(self, state: WorkerState, context: Context) -> None:
        self.router = ""
        self._state = state
        self._context = context
        self._outbox = Outbox(state.tally)
        self._sender = Sender(self._outbox, context.write, OUTBOX_BYTES)
        self._calls: dict[int, OpenCall] = {}
        self._closing: asyncio.Future[_End] = asyncio.get_running_loop().create_future()

    @property
    def outbox_bytes(self) -> int:
        return self._outbox.bytes

    def greet(self) -> None:
        facts = self._state.facts
        self._sender.hello(
            pb.Hello(
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                features=(MESSAGES, RESPONSES, EMBEDDINGS),
                worker=self._state.identity,
                layout=None if facts is None else facts.layout,
                limits=self._state.limits(),
            )
        )

    def load(self, load: pb.Load, *, urgent: bool) -> None:
        self._sender.load(load, urgent=urgent)

    def stop_calls(self, error: CallError) -> None:
        for call in self._calls.values():
            call.stop(error)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._sender.flushed()
        except TimeoutError:
            log.warning("the router did not read the last frames", extra={"router": self.router})
        self._finish(_End("shutdown"))

    async def run(self) -> None:
        """Returns when the session has ended, or aborts the stream with what was wrong."""
        end = _End("lost")
        try:
            first = await self._hello()
            self._state.sessions[self] = None
            self.greet()
            self.load(self._state.look().load, urgent=True)
            log.info("session begins", extra={"router": self.router, "peer": self._context.peer()})
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._sender.run())
                    group.create_task(self._sender.overflow())
                    group.create_task(self._read(first, group))
                    raise await self._closing
            except* SlowRouter as slow:
                why = f"the router is too slow: {slow.exceptions[0]}"
                end = _End("slow", grpc.StatusCode.RESOURCE_EXHAUSTED, why)
            except* grpc.aio.BaseError as broken:
                log.info("the stream broke: %r", broken.exceptions[0], extra={"router": self.router})
            except* _End:
                end = self._closing.result()
        except _End as refused:
            end = refused
        finally:
            self._state.sessions.pop(self, None)
            for lease in self._outbox.unsent_leases():
                self._state.release(lease)
            self._state.metrics.session_ended(end.label)
            log.info("session ends", extra={"router": self.router, "end": end.label, "why": end.text})
        if end.code is not grpc.StatusCode.OK:
            await self._context.abort(end.code, end.text)

    async def _hello(self) -> pb.Upward:
        """The first message, whose Hello this worker can answer."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await self._receive()
        except TimeoutError as error:
            raise _refusal(f"no Hello within {HELLO_SECONDS:g} s") from error
        if first is None or not first.HasField("hello"):
            raise _refusal("a session begins with a Hello")
        hello = first.hello
        if hello.protocol_min > PROTOCOL_MAX or hello.protocol_max < PROTOCOL_MIN:
            raise _refusal(
                f"this worker speaks the protocols {PROTOCOL_MIN} to {PROTOCOL_MAX}, "
                f"the router {hello.protocol_min} to {hello.protocol_max}"
            )
        self.router = hello.router
        return first

    async def _read(self, first: pb.Upward, group: asyncio.TaskGroup) -> None:
        message: pb.Upward | None = first
        while message is not None:
            self._carry_out(message, group)
            message = await self._receive()
        self._finish(_End("closed"))

    async def _receive(self) -> pb.Upward | None:
        """The router's next message; None when it has said its last one."""
        message: object = await self._context.read()
        return message if isinstance(message, pb.Upward) else None

    def _carry_out(self, message: pb.Upward, group: asyncio.TaskGroup) -> None:
        for call_id in message.cancels:
            if call := self._calls.get(call_id):
                call.cancel()
        for submit in message.submits:
            self._submit(submit, group)
        for piece in message.pieces:
            if call := self._calls.get(piece.call_id):
                call.piece(piece.data)
        for hand_on in message.hand_ons:
            group.create_task(self._hand_on(hand_on))
        for lease in message.releases:
            self._state.release(lease)

    def _submit(self, submit: pb.Submit, group: asyncio.TaskGroup) -> None:
        call_id = submit.call_id
        if call := self._calls.get(call_id):
            # Which of the two the router would take an answer for can't be told: the id ends, once and for both.
            call.stop(InvalidRequest(f"Call id {call_id} was submitted twice."))
            return
        call = self._calls[call_id] = OpenCall(submit, self._sender, self._state)
        call.start(group).add_done_callback(lambda _: self._calls.pop(call_id, None))

    async def _hand_on(self, hand_on: pb.HandOn) -> None:
        lane = Lane(hand_on.call_id)
        try:
            async with asyncio.timeout(HAND_ON_SECONDS):
                handle = await self._state.hand_on(hand_on.lease)
        except CallError as error:
            failed = pb.Failed(call_id=hand_on.call_id, code=error.code, message=error.message)
            self._sender.end(lane, failed)
        except Exception:
            log.exception("a lease could not be handed on", extra={"router": self.router})
            text = "The lease could not be handed on."
            self._sender.end(lane, pb.Failed(call_id=hand_on.call_id, code=KvGone.code, message=text))
        else:
            self._sender.end(lane, pb.Finished(call_id=hand_on.call_id, kv=handle))

    def _finish(self, end: _End) -> None:
        if not self._closing.done():
            self._closing.set_result(end)


def _refusal(text: str) -> _End:
    return _End("refused", grpc.StatusCode.FAILED_PRECONDITION, text)
