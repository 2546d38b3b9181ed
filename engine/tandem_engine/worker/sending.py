"""The one writer of a session: sends the outbox's frames, each at its time.

grpc.aio breaks when two tasks write to one call, so everything goes through here. A frame takes what one turn of the
loop has put into the outbox, and the ends of calls that follow in the next; where calls that stream have nothing in it
yet, it waits FRAME_WAIT_SECONDS for them. A router that does not read ends its session: the worker's memory is not its
buffer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from tandem_proto.protocol import FRAME_WAIT_SECONDS
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.worker.outbox import Lane, Outbox

WRITE_SECONDS = 30.0
"""How long one frame may take to be accepted by the transport."""


class SlowRouter(Exception):
    """The router does not read what its calls have to say."""


class Sender:
    """Puts events into an outbox and sees to it that they are sent. `run` and `overflow` are tasks of the session's."""

    def __init__(self, outbox: Outbox, write: Callable[[pb.Downward], Awaitable[None]], limit: int) -> None:
        self.outbox = outbox
        self._write = write
        self._limit = limit
        self._go = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = asyncio.Event()
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._overflow: asyncio.Future[int] = self._loop.create_future()

    def hello(self, hello: pb.Hello) -> None:
        self.outbox.hello(hello)
        self._poke()

    def load(self, load: pb.Load, *, urgent: bool) -> None:
        self.outbox.load(load, urgent=urgent)
        self._poke()

    def started(self, lane: Lane, started: pb.Started) -> None:
        self.outbox.started(lane, started)
        self._poke()

    def data(self, lane: Lane, chunk: bytes) -> None:
        self.outbox.data(lane, chunk)
        self._poke()

    def end(self, lane: Lane, end: pb.Finished | pb.Failed) -> None:
        self.outbox.end(lane, end)
        self._poke()

    async def run(self) -> None:
        """Sends until it is cancelled.

        Raises:
            SlowRouter: a frame was not accepted in time.
        """
        try:
            while True:
                await self._go.wait()
                await asyncio.sleep(0)  # a call that has just said its last data ends in this turn: in the same frame
                await self._send()
        finally:
            self._ended = True
            self._flushed.set()
            if self._timer is not None:
                self._timer.cancel()

    async def overflow(self) -> NoReturn:
        """Waits for the outbox to hold more than it may.

        Raises:
            SlowRouter: it does.
        """
        raise SlowRouter(f"{await self._overflow} bytes wait to be read by it")

    async def flushed(self) -> None:
        """Returns when everything put so far has been given to the transport, or nothing will be any more."""
        while not self._ended and not (self.outbox.empty and self._flushed.is_set()):
            self._flushed.clear()
            self._go.set()
            await self._flushed.wait()

    async def _send(self) -> None:
        self._go.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frame = self.outbox.take()
        if frame is not None:
            self._flushed.clear()
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._write(frame)
            except TimeoutError as error:
                raise SlowRouter(f"a frame was not read within {WRITE_SECONDS:g} s") from error
        if self.outbox.due:
            self._go.set()
        elif self.outbox.empty:
            self._flushed.set()

    def _poke(self) -> None:
        if self._go.is_set():
            pass
        elif self.outbox.due:
            self._go.set()
        elif self._timer is None and not self.outbox.empty:
            self._timer = self._loop.call_later(FRAME_WAIT_SECONDS, self._go.set)
        if self.outbox.bytes > self._limit and not self._overflow.done():
            self._overflow.set_result(self.outbox.bytes)
