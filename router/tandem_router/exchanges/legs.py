"""The parts of a request that run at one worker, as its link tells of them: something to wait for, and an answer.

Each is entered for as long as it may run: whoever leaves before it is over cancels it at the worker.
"""

import asyncio
from types import TracebackType
from typing import Final, Protocol, Self

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import Client, Headers
from tandem_router.sessions.link import Link

EVENT_STREAM: Final = "text/event-stream"


class Hears(Protocol):
    """Who is told how an answer comes along."""

    def started(self, started: pb.Started, streams: bool) -> None:
        """The worker has the prompt's KV and its first token; the client may yet have to wait."""

    def headers(self, content_type: str, streams: bool) -> Headers:
        """The client is about to hear something: gives the response's headers."""

    def failure_event(self, failure: CallFailed) -> bytes:
        """What a stream that has begun ends with when it fails."""

    def finished(self, finished: pb.Finished) -> None:
        """The client has heard all."""


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
    whole, for the same reason, even if its worker starts to answer long before.
    """

    def __init__(self, link: Link, client: Client, hears: "Hears") -> None:
        super().__init__(link)
        self.began = False
        """The client has been told something: no other worker can answer any more."""
        self.complete = False
        self._client = client
        self._hears = hears
        self._started = pb.Started(status=200)
        self._streams = True
        self._pieces: list[bytes] = []

    def started(self, started: pb.Started) -> None:
        self._started = started
        self._streams = started.content_type.startswith(EVENT_STREAM)
        self._hears.started(started, self._streams)

    def data(self, chunk: bytes) -> None:
        if self._streams:
            self._begin(chunk)
            self._link.sinks[self._call_id] = self._client.write
        else:
            self._pieces.append(chunk)

    def _begin(self, chunk: bytes) -> None:
        self._client.begin(self._started.status, self._headers(), chunk)

    def _headers(self) -> Headers:
        self.began = True
        return self._hears.headers(self._started.content_type, self._streams)

    def finished(self, finished: pb.Finished) -> None:
        if not self._streams:
            self._client.respond(self._started.status, self._headers(), b"".join(self._pieces))
        else:
            if not self.began:
                self._begin(b"")
            self._client.end()
        self.complete = True
        self._hears.finished(finished)
        super().finished(finished)

    def failed(self, failure: CallFailed) -> None:
        if self.began:
            self._client.fail(self._hears.failure_event(failure))
        super().failed(failure)
