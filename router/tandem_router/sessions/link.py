"""One worker's session: submits and cancels go up, frames come down and straight to the calls they belong to.

A link keeps a session alive for as long as it runs, with growing pauses between attempts. It knows calls only as
`Leg`s: whoever submits one hears what becomes of it, exactly once, also when the session is lost. Callbacks run inside
the reader: they return at once, and what one of them raises costs its own call and no other.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from typing import Final, Protocol, TypeVar

from tandem_api.topology import WorkerEndpoint
from tandem_proto.channels import Tls
from tandem_proto.protocol import MAX_MESSAGE_BYTES, PROTOCOL_MAX, PROTOCOL_MIN
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.failures import CallFailed
from tandem_router.sessions.outbox import Outbox
from tandem_router.sessions.rpc import Call, open_call

_log = logging.getLogger(__name__)

HELLO_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
FAREWELL_SECONDS: Final = 2.0
"""How long a worker may take to end a session that the router has closed."""

_LARGEST_MESSAGE: Final = 4 * MAX_MESSAGE_BYTES
_METHODS: Final = {"prefill": "/tandem.v1.PrefillWorker/Session", "decode": "/tandem.v1.DecodeWorker/Session"}

_T = TypeVar("_T")


class Leg(Protocol):
    """One call at one worker, as the link tells of it. `finished` or `failed` comes last, once."""

    def started(self, started: pb.Started) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def finished(self, finished: pb.Finished) -> None: ...

    def failed(self, failure: CallFailed) -> None: ...


class Listener(Protocol):
    """Who wants to know how the worker is."""

    def greeted(self, hello: pb.Hello) -> str | None:
        """A session begins. What is said against this worker ends it."""

    def loaded(self, load: pb.Load) -> None: ...

    def lost(self) -> None:
        """The session is over. All its calls have heard of it."""


class Link:
    """The session to one worker. `run` is a task of whoever owns the link; everything else is called by its loop."""

    def __init__(self, endpoint: WorkerEndpoint, router: str, tls: Tls | None, listener: Listener) -> None:
        self.endpoint = endpoint
        self.connected = False
        self.trouble = "not tried yet"
        """Why there is no session, for people."""
        self.frames = 0
        self.events = 0
        """Chunks of answers that came in those frames."""
        self.sinks: dict[int, Callable[[bytes], object]] = {}
        """Where each call's data goes. A leg may put something more direct in its place once its answer has begun."""
        self._hello = pb.Upward(hello=pb.Hello(protocol_min=PROTOCOL_MIN, protocol_max=PROTOCOL_MAX, router=router))
        self._tls = tls
        self._listener = listener
        self._legs: dict[int, Leg] = {}
        self._outbox = Outbox()
        self._flushing = False
        self._loop = asyncio.get_running_loop()
        self._call: Call | None = None
        self._limit: asyncio.Timeout | None = None
        """For the worker's Hello, and for the end of a session that was closed."""
        self._rest: tuple[pb.Downward, int] | None = None
        """A frame of which so many events have been relayed; the others are for the loop's next turn."""
        self._last_id = 0
        self._closing = False

    @property
    def open_calls(self) -> int:
        return len(self._legs)

    # ---- what calls ask for

    def submit(self, submit: pb.Submit, body: bytes, leg: Leg) -> int:
        """Sends a call; returns its id. Without a session `leg` hears at once that it failed."""
        call_id = self._register(leg)
        if call_id:
            submit.call_id = call_id
            self._outbox.submit(submit, body)
            self._say()
        return call_id

    def hand_on(self, lease: bytes, leg: Leg) -> int:
        """Asks for a lease's next bits: `leg.finished` has the handle."""
        call_id = self._register(leg)
        if call_id:
            self._outbox.hand_on(pb.HandOn(call_id=call_id, lease=lease))
            self._say()
        return call_id

    def cancel(self, call_id: int) -> None:
        """The call's leg hears nothing any more. A call that is over is no error."""
        if self._legs.pop(call_id, None) is not None:
            self.sinks.pop(call_id, None)
            self._outbox.cancel(call_id)
            self._say()

    def release(self, lease: bytes) -> None:
        """Ends a lease. Where the session is lost, the worker's TTL ends it."""
        if self.connected:
            self._outbox.release(lease)
            self._say()

    def close(self) -> None:
        """`run` ends once everything is said that was to be said."""
        self._closing = True
        self._say()

    def _say(self) -> None:
        """What the outbox has goes in the loop's next turn but one: what comes until then shares a message."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._loop.call_soon, self._flush)

    def _register(self, leg: Leg) -> int:
        if not self.connected:
            leg.failed(CallFailed(pb.UNAVAILABLE, "the model's worker can't be reached", reason="no_session"))
            return 0
        self._last_id += 1
        self._legs[self._last_id] = leg
        self.sinks[self._last_id] = leg.data
        return self._last_id

    # ---- the session

    async def run(self) -> None:
        """Holds a session, again and again, until `close`."""
        pause = FIRST_PAUSE
        while not self._closing:
            was_connected = False
            try:
                await self._session()
            except (OSError, TimeoutError) as error:
                self.trouble = _explain(error)
            finally:
                was_connected = self.connected
                self._lose()
                self._call = self._limit = None
            if self._closing:
                return
            if was_connected:
                _log.warning("lost the session to %s: %s", self.endpoint.name, self.trouble)
                pause = FIRST_PAUSE
            # Routers that lost a worker together shall not return together.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, keeps no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _session(self) -> None:
        """From the Hello to the end; `trouble` then says why it ended."""
        method = _METHODS[self.endpoint.role]
        async with (
            asyncio.timeout(HELLO_SECONDS) as self._limit,
            open_call(
                self.endpoint.address, self._tls, method, self._hear, sent=self._flush, largest=_LARGEST_MESSAGE
            ) as self._call,
        ):
            self._call.send(self._hello.SerializeToString())
            self.trouble = (await self._call.ended()).details or "the worker ended the session"

    def _flush(self) -> None:
        self._flushing = False
        call, limit = self._call, self._limit
        if call is None or limit is None or not self.connected:
            return
        while self._outbox and call.idle:
            call.send(self._outbox.next().SerializeToString())
        if self._closing and call.idle and limit.when() is None:
            call.done_writing()
            limit.reschedule(self._loop.time() + FAREWELL_SECONDS)

    def _hear(self, message: bytes) -> None:
        frame = pb.Downward.FromString(message)
        if not self.connected:
            objection = _objection(frame.hello) or self._listener.greeted(frame.hello)
            if objection:
                _log.warning("refused the worker at %s: %s", self.endpoint.address, objection)
                if self._call is not None:
                    self._call.cancel(objection)
                return
            self.connected, self.trouble = True, ""
            if self._limit is not None:
                self._limit.reschedule(None)
            self._say()
        self._take(frame)

    def _take(self, frame: pb.Downward) -> None:
        """One frame, in the order of its fields: a call's start, data and end may be in the same one.

        First tokens go before the others' in a turn of the loop of their own: uvloop's transports write when a turn
        ends, in whatever order.
        """
        self._take_rest()
        self.frames += 1
        legs = self._legs
        for started in frame.started:
            if (leg := legs.get(started.call_id)) is not None:
                self._tell(started.call_id, leg.started, started)
        self.events += len(frame.data_calls)
        first = _first_tokens(frame)
        if not 0 < first < len(frame.data_calls):
            self._relay(zip(frame.data_calls, frame.data, strict=False))
            self._take_ends(frame)
            return
        self._relay(islice(zip(frame.data_calls, frame.data, strict=False), first))
        self._rest = frame, first
        self._loop.call_soon(self._take_rest)

    def _take_rest(self) -> None:
        """What has been left of the last frame."""
        if self._rest is None:
            return
        (frame, begin), self._rest = self._rest, None
        self._relay(islice(zip(frame.data_calls, frame.data, strict=False), begin, None))
        self._take_ends(frame)

    def _take_ends(self, frame: pb.Downward) -> None:
        for finished in frame.finished:
            if (leg := self._end(finished.call_id)) is not None:
                self._tell(finished.call_id, leg.finished, finished)
            elif finished.HasField("kv"):
                # Cancelled while its end was on the way: nobody else knows of this lease.
                self.release(finished.kv.lease)
        for failed in frame.failed:
            if (leg := self._end(failed.call_id)) is not None:
                self._tell(failed.call_id, leg.failed, CallFailed.of(failed))
        if frame.HasField("load"):
            self._listener.loaded(frame.load)

    def _relay(self, events: Iterable[tuple[int, bytes]]) -> None:
        sinks = self.sinks
        for call_id, chunk in events:
            if (sink := sinks.get(call_id)) is not None:
                try:
                    sink(chunk)
                except Exception:
                    self._break(call_id)

    def _tell(self, call_id: int, hear: Callable[[_T], None], what: _T) -> None:
        try:
            hear(what)
        except Exception:
            self._break(call_id)

    def _break(self, call_id: int) -> None:
        """A leg could not take what came: its call is over, at the worker too."""
        _log.exception("call %d of %s could not be relayed", call_id, self.endpoint.name)
        leg = self._legs.get(call_id)
        self.cancel(call_id)
        if leg is not None:
            leg.failed(CallFailed(pb.INTERNAL, "the answer could not be relayed", reason="relay"))

    def _end(self, call_id: int) -> Leg | None:
        self.sinks.pop(call_id, None)
        return self._legs.pop(call_id, None)

    def _lose(self) -> None:
        self._take_rest()
        self.connected = False
        self._outbox.clear()
        legs, self._legs = self._legs, {}
        self.sinks.clear()
        for leg in legs.values():
            leg.failed(
                CallFailed(pb.UNAVAILABLE, "the connection to the model's worker was lost", reason="session_lost")
            )
        self._listener.lost()


def _first_tokens(frame: pb.Downward) -> int:
    """How many of the frame's events are the first of their calls: workers put them before the others."""
    if not frame.started:
        return 0
    started = {started.call_id for started in frame.started}
    return sum(1 for _ in takewhile(started.__contains__, frame.data_calls))


def _objection(hello: pb.Hello) -> str | None:
    if hello.protocol_min > PROTOCOL_MAX or hello.protocol_max < PROTOCOL_MIN:
        theirs = f"{hello.protocol_min} to {hello.protocol_max}"
        return f"it speaks worker protocol {theirs}, this router {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    return None


def _explain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it did not answer within {HELLO_SECONDS:g} s"
    return str(error) or type(error).__name__
