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


class _Frame:
    """A frame that is being filled."""

    def __init__(self, hello: pb.Hello | None, load: pb.Load | None) -> None:
        self.taken = 0
        """Of lanes, in bytes."""
        self._hello = hello
        self._load = load
        self._started: list[pb.Started] = []
        self._calls: list[int] = []
        self._data: list[bytes] = []
        self._finished: list[pb.Finished] = []
        self._failed: list[pb.Failed] = []
        self._room = MAX_MESSAGE_BYTES
        for message in (hello, load):
            if message is not None:
                self._room -= message.ByteSize() + ELEMENT_BYTES
        self._room_for_lanes = self._room

    @property
    def empty(self) -> bool:
        return self._bare and self._hello is None and self._load is None

    @property
    def _bare(self) -> bool:
        """It has nothing of any lane: sizes don't tell, for a message may have none."""
        return self._room == self._room_for_lanes

    def take(self, lane: Lane) -> bool:
        """Takes at most one element of each kind out of a lane; False: what is next in it does not fit any more."""
        if lane.started is not None:
            if not self._make_room(lane.started):
                return False
            self._started.append(lane.started)
            lane.started = None
        if lane.chunks:
            piece = _piece(lane, self._room - ELEMENT_BYTES)
            if not piece:
                return False
            size = len(piece)
            self._calls.append(lane.call_id)
            self._data.append(piece)
            self.taken += size
            self._room -= size + ELEMENT_BYTES
        if lane.end is not None and not lane.chunks:
            if not self._make_room(lane.end):
                return False
            if isinstance(lane.end, pb.Finished):
                self._finished.append(lane.end)
            else:
                self._failed.append(lane.end)
            lane.end = None
        return True

    def message(self) -> pb.Downward:
        return pb.Downward(
            hello=self._hello,
            started=self._started,
            data_calls=self._calls,
            data=self._data,
            finished=self._finished,
            failed=self._failed,
            load=self._load,
        )

    def _make_room(self, message: pb.Started | pb.Finished | pb.Failed) -> bool:
        """For a message, where there is enough. The first one of all goes whatever its size."""
        size = message.ByteSize()
        if self._room < size + ELEMENT_BYTES and not self._bare:
            return False
        self.taken += size
        self._room -= size + ELEMENT_BYTES
        return True


class Outbox:
    """The lanes of a session's calls. All methods return at once; what is put into a closed lane is dropped."""

    def __init__(self, tally: Tally) -> None:
        self.bytes = 0
        """Held, of all lanes."""
        self._tally = tally
        self._queue: deque[Lane] = deque()
        self._fresh = 0  # lanes at the queue's front that have had no data: a first token goes before all others
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
        frame = _Frame(self._hello, self._load)
        queue = self._queue
        self._fresh = 0
        for _ in range(len(queue)):
            lane = queue.popleft()
            if not frame.take(lane):
                queue.appendleft(lane)  # it opens the next frame
                break
            if lane.chunks or lane.end is not None:
                queue.append(lane)
            else:
                lane.queued = False
                if lane.spoken and not lane.closed:
                    self._silent += 1
        self.bytes -= frame.taken
        self._hello = self._load = None
        self._urgent = False
        self._behind = bool(queue)
        if frame.empty:
            return None
        self._tally.frames += 1
        return frame.message()

    def _put(self, lane: Lane, size: int) -> None:
        self.bytes += size
        self._tally.events += 1
        if not lane.queued:
            lane.queued = True
            if lane.spoken:
                self._queue.append(lane)
                self._silent -= 1
            else:
                self._queue.insert(self._fresh, lane)
                self._fresh += 1


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
