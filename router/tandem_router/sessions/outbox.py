"""What is to be said to one worker, put into messages of the order and the sizes that the worker protocol sets.

Whatever has gathered while a message was under way goes into the next one: under load many submits share a message.
Cancels go first. Large bodies go in pieces, one of each call a message, so that none holds the others up.
"""

from collections import deque
from typing import Final

from tandem_proto.protocol import MAX_MESSAGE_BYTES, PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2 as pb

_BUDGET: Final = MAX_MESSAGE_BYTES - 4096
"""Bytes of one message that are filled; the rest is for tags and lengths."""
_MAX_IDS: Final = 2048
"""Cancels, releases and hand-ons of one message, each of them: at most about 24 KiB."""


class Outbox:
    """Filled by whoever has something to say, emptied by the session's one writer."""

    def __init__(self) -> None:
        self._cancels: deque[int] = deque()
        self._releases: deque[bytes] = deque()
        self._hand_ons: deque[pb.HandOn] = deque()
        self._submits: dict[int, tuple[pb.Submit, bytes]] = {}
        self._bodies: dict[int, memoryview] = {}

    def __bool__(self) -> bool:
        return bool(self._cancels or self._releases or self._hand_ons or self._submits or self._bodies)

    def submit(self, submit: pb.Submit, body: bytes) -> None:
        """`submit` without body and body_bytes, which are filled in here."""
        self._submits[submit.call_id] = (submit, body)

    def cancel(self, call_id: int) -> None:
        """Nothing more of the call is sent; where nothing of it was, the worker never hears of it."""
        if self._submits.pop(call_id, None) is None:
            self._bodies.pop(call_id, None)
            self._cancels.append(call_id)

    def hand_on(self, hand_on: pb.HandOn) -> None:
        self._hand_ons.append(hand_on)

    def release(self, lease: bytes) -> None:
        self._releases.append(lease)

    def clear(self) -> None:
        """The session is lost, and with it all that was to be said."""
        for part in (self._cancels, self._releases, self._hand_ons, self._submits, self._bodies):
            part.clear()

    def next(self) -> pb.Upward:
        """The next message; empty where there is nothing to say."""
        message = pb.Upward()
        room = _BUDGET
        for _ in range(min(len(self._cancels), _MAX_IDS)):
            message.cancels.append(self._cancels.popleft())
        for _ in range(min(len(self._releases), _MAX_IDS)):
            message.releases.append(self._releases.popleft())
        for _ in range(min(len(self._hand_ons), _MAX_IDS)):
            message.hand_ons.append(self._hand_ons.popleft())
        if message.cancels or message.releases or message.hand_ons:
            room -= message.ByteSize()
        # Where bodies are under way, submits leave them half of the message.
        room = self._fill_submits(message, room, room // 2 if self._bodies else 0)
        self._fill_pieces(message, room)
        return message

    def _fill_submits(self, message: pb.Upward, room: int, keep: int) -> int:
        for call_id, (submit, body) in list(self._submits.items()):
            submit.body = body if len(body) <= PIECE_BYTES else body[:PIECE_BYTES]
            submit.body_bytes = len(body)
            size = submit.ByteSize()
            if size > room - keep and message.submits:
                break
            message.submits.append(submit)
            room -= size
            del self._submits[call_id]
            if len(body) > PIECE_BYTES:
                self._bodies[call_id] = memoryview(body)[PIECE_BYTES:]
        return room

    def _fill_pieces(self, message: pb.Upward, room: int) -> None:
        fresh = {submit.call_id for submit in message.submits}
        for call_id, rest in list(self._bodies.items()):
            if call_id in fresh:
                continue
            if room < PIECE_BYTES:
                break
            message.pieces.append(pb.BodyPiece(call_id=call_id, data=bytes(rest[:PIECE_BYTES])))
            room -= PIECE_BYTES
            # Back to the end: those that got nothing into this message are first in the next.
            del self._bodies[call_id]
            if len(rest) > PIECE_BYTES:
                self._bodies[call_id] = rest[PIECE_BYTES:]
