"""The parts of a request that run at one worker, as its link tells of them: something to wait for, and an answer.

Each is entered for as long as it may run: whoever leaves before it is over cancels it at the worker.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.clients import Client, Headers
from tandem_router.failures import CallFailed
from tandem_router.link import Link


class Waiting:
    """A call whose end is all that counts: prefill and hand-on."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._end: asyncio.Future[pb.Finished] = asyncio.get_running_loop().create_future()
        self._unclaimed: pb.Finished | None = None
        """What the call ended with, until the one who waits has got it."""
        self._call_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.cancel(self._call_id)
        if self._end.done() and not self._end.cancelled():
            # Looked at here, a failure that nobody waits for any more is no complaint of the event loop's.
            self._end.exception()
        if self._unclaimed is not None and self._unclaimed.HasField("kv"):
            # Cancelled in the very turn in which the end came: nobody else knows of this lease.
            self._link.release(self._unclaimed.kv.lease)

    async def submit(self, submit: pb.Submit, body: bytes) -> pb.Finished:
        """Runs a call.

        Raises:
            CallFailed: as the worker said, or the session was lost.
        """
        self._call_id = self._link.submit(submit, body, self)
        return await self._wait()

    async def hand_on(self, lease: bytes) -> pb.Finished:
        """Draws other bits for a lease.

        Raises:
            CallFailed: KV_GONE, or the session was lost.
        """
        self._call_id = self._link.hand_on(lease, self)
        return await self._wait()

    async def _wait(self) -> pb.Finished:
        finished = await self._end
        self._unclaimed = None
        return finished

    def started(self, started: pb.Started) -> None:
        """Only answers start."""

    def data(self, chunk: bytes) -> None:
        """Only answers have data."""

    def finished(self, finished: pb.Finished) -> None:
        self._unclaimed = finished
        if not self._end.done():
            self._end.set_result(finished)

    def failed(self, failure: CallFailed) -> None:
        if not self._end.done():
            self._end.set_exception(failure)


class Answer(Waiting):
    """A decode call: its bytes go to the client as they come, from the link's reader, without another task.

    A stream begins with its first data, so that until then another worker may try. One JSON body is held until it is
    whole, for the same reason. `first` is called before the client hears anything, and gives the response's headers;
    `last` when it has heard all.
    """

    def __init__(
        self,
        link: Link,
        client: Client,
        first: Callable[[pb.Started], Headers],
        last: Callable[[pb.Finished], None],
    ) -> None:
        super().__init__(link)
        self.began = False
        """The client has been told something: no other worker can answer any more."""
        self.complete = False
        self._client = client
        self._first = first
        self._last = last
        self._started = pb.Started(status=200)
        self._pieces: list[bytes] = []

    def started(self, started: pb.Started) -> None:
        self._started = started

    def data(self, chunk: bytes) -> None:
        if self._started.content_bytes:
            self._pieces.append(chunk)
        else:
            self._begin(chunk)

    def _begin(self, chunk: bytes) -> None:
        self.began = True
        self._client.begin(self._started.status, self._first(self._started), chunk)
        self._link.sinks[self._call_id] = self._client.write

    def finished(self, finished: pb.Finished) -> None:
        if self._started.content_bytes:
            self.began = True
            self._client.respond(self._started.status, self._first(self._started), b"".join(self._pieces))
        else:
            if not self.began:
                self._begin(b"")
            self._client.end()
        self.complete = True
        self._last(finished)
        super().finished(finished)

    def failed(self, failure: CallFailed) -> None:
        if self.began:
            self._client.end(failure.event())
        super().failed(failure)
