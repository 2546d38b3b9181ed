"""What a session has to say, and what of it the next frame takes.

At a thousand streams this is where a worker's time goes, so a frame carries the events of all calls, each call's data
joined, in two flat lists. Nothing here waits or writes: `tandem_engine.worker.sending` does, and asks `due` when.

The rules of a frame (worker.proto): of one call at most one element of each kind, in order; at most
MAX_MESSAGE_BYTES; no call has more than PIECE_BYTES of data in it, so that a large answer never holds up the others.
A chunk is cut only where it alone is larger than that: SSE events stay whole.
"""

from collections import deque
from dataclasses import dataclass, field

from tandem_proto.protocol import MAX_MESSAGE_BYTES, PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2 as pb

ELEMENT_BYTES = 16
"""At most what an element takes beside its content: its field's tag and length, and a call id."""


@dataclass(slots=True)
class Tally:
    """Monotone counts over all sessions of a worker: plain integers, for they are counted at every event."""

    frames: int = 0
    events: int = 0
    bytes: int = 0
    """Of data."""


@dataclass(slots=True, eq=False)
class Lane:
    """What one call has to say and has not said: a beginning, data, an end, in this order."""

    call_id: int
    started: pb.Started | None = None
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    """Of the chunks, in bytes."""
    end: pb.Finished | pb.Failed | None = None
    queued: bool = False
    """It stands in the outbox's queue."""
    spoken: bool = False
    """It has had data: more is to be expected of it, and that may wait for a fuller frame."""
    closed: bool = False
    """It takes nothing more."""


class Outbox:
    """The lanes of a session's calls. All methods return at once; what is put into a closed lane is dropped."""

    def __init__(self, tally: Tally) -> None:
        self.bytes = 0
        """Held, of all lanes."""
        self._tally = tally
        self._queue: deque[Lane] = deque()
        self._silent = 0  # lanes that have spoken, are open, and have nothing here: the ones a frame would wait for
        self._urgent = False
        self._behind = False  # the last frame could not take all
        self._hello: pb.Hello | None = None
        self._load: pb.Load | None = None

    @property
    def due(self) -> bool:
        """Whether the next frame should go at once, rather than wait for more."""
        if self._urgent:
            return True
        if not self._queue:
            return False
        return self._silent == 0 or self._behind or self.bytes >= MAX_MESSAGE_BYTES

    @property
    def empty(self) -> bool:
        return not self._queue and self._hello is None and self._load is None

    def hello(self, hello: pb.Hello) -> None:
        self._hello = hello
        self._urgent = True

    def load(self, load: pb.Load, *, urgent: bool) -> None:
        """The latest snapshot takes the place of one that has not gone out."""
        self._load = load
        self._urgent = self._urgent or urgent

    def started(self, lane: Lane, started: pb.Started) -> None:
        if lane.closed:
            return
        lane.started = started
        self._put(lane, started.ByteSize())

    def data(self, lane: Lane, chunk: bytes) -> None:
        if lane.closed or not chunk:
            return
        size = len(chunk)
        if size <= PIECE_BYTES:
            lane.chunks.append(chunk)
        else:
            lane.chunks.extend(chunk[at : at + PIECE_BYTES] for at in range(0, size, PIECE_BYTES))
        lane.size += size
        self._tally.bytes += size
        self._put(lane, size)
        if not lane.spoken:
            lane.spoken = True
            self._urgent = True  # a call's first data never waits

    def end(self, lane: Lane, end: pb.Finished | pb.Failed) -> None:
        if lane.closed:
            return
        lane.end = end
        self._put(lane, end.ByteSize())
        lane.closed = True
        if not lane.spoken:
            self._urgent = True  # the first word is the last one: a prefill's handle, or an error

    def drop(self, lane: Lane) -> None:
        """Forgets what the lane holds, and closes it."""
        if lane.spoken and not lane.queued and not lane.closed:
            self._silent -= 1
        self.bytes -= lane.size
        for message in (lane.started, lane.end):
            if message is not None:
                self.bytes -= message.ByteSize()
        lane.started, lane.end, lane.size, lane.closed = None, None, 0, True
        lane.chunks.clear()

    def unsent_leases(self) -> list[bytes]:
        """Of KV handles that wait here: once the session is lost, nobody will ever fetch what they name."""
        return [lane.end.kv.lease for lane in self._queue if isinstance(lane.end, pb.Finished) and lane.end.kv.lease]

    def take(self) -> pb.Downward | None:
        """The next frame; None where there is nothing to say."""
        started: list[pb.Started] = []
        calls: list[int] = []
        data: list[bytes] = []
        finished: list[pb.Finished] = []
        failed: list[pb.Failed] = []
        room = MAX_MESSAGE_BYTES
        for message in (self._hello, self._load):
            if message is not None:
                room -= message.ByteSize() + ELEMENT_BYTES
        all_room = room

        queue = self._queue
        for _ in range(len(queue)):
            lane = queue.popleft()
            # A lane that does not fit opens the next frame. Alone in a frame, it goes whatever its size.
            if lane.started is not None:
                cost = lane.started.ByteSize()
                if room < cost + ELEMENT_BYTES and room < all_room:
                    queue.appendleft(lane)
                    break
                started.append(lane.started)
                lane.started = None
                self.bytes -= cost
                room -= cost + ELEMENT_BYTES
            if lane.chunks:
                piece = _piece(lane, room - ELEMENT_BYTES)
                if not piece:
                    queue.appendleft(lane)
                    break
                calls.append(lane.call_id)
                data.append(piece)
                self.bytes -= len(piece)
                room -= len(piece) + ELEMENT_BYTES
            if lane.end is not None and not lane.chunks:
                cost = lane.end.ByteSize()
                if room < cost + ELEMENT_BYTES and room < all_room:
                    queue.appendleft(lane)
                    break
                if isinstance(lane.end, pb.Finished):
                    finished.append(lane.end)
                else:
                    failed.append(lane.end)
                lane.end = None
                self.bytes -= cost
                room -= cost + ELEMENT_BYTES
            if lane.chunks or lane.end is not None:
                queue.append(lane)
            else:
                lane.queued = False
                if lane.spoken and not lane.closed:
                    self._silent += 1

        self._urgent = False
        self._behind = bool(queue)
        hello, load = self._hello, self._load
        self._hello = self._load = None
        if room == all_room and hello is None and load is None:
            return None
        self._tally.frames += 1
        return pb.Downward(
            hello=hello, started=started, data_calls=calls, data=data, finished=finished, failed=failed, load=load
        )

    def _put(self, lane: Lane, size: int) -> None:
        self.bytes += size
        self._tally.events += 1
        if not lane.queued:
            lane.queued = True
            self._queue.append(lane)
            if lane.spoken:
                self._silent -= 1


def _piece(lane: Lane, room: int) -> bytes:
    """Takes the lane's next chunks, joined: at most PIECE_BYTES, and none where `room` is too little for the first."""
    limit = min(room, PIECE_BYTES)
    chunks = lane.chunks
    if lane.size <= limit:
        piece = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
    else:
        size = count = 0
        for chunk in chunks:
            if size + len(chunk) > limit:
                break
            size += len(chunk)
            count += 1
        piece = b"".join(chunks[:count])
        del chunks[:count]
    lane.size -= len(piece)
    return piece
