"""HTTP/2 frames (RFC 9113, sections 4 and 6): bytes in, frames out, and back."""

from collections.abc import Iterator
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5

DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384

CANCEL: Final = 0x8
"""Error code of a call that its client does not want any more."""

HEAD: Final = 9
"""Bytes before a frame's payload."""


class ProtocolError(Exception):
    """The peer does not speak HTTP/2."""


class Frame(NamedTuple):
    """One frame, its payload without padding."""

    type: int
    flags: int
    stream: int
    payload: bytes


def head(type: int, flags: int, stream: int, size: int) -> bytes:
    """What stands before a payload of `size` bytes."""
    return b"%b%c%c%b" % (size.to_bytes(3, "big"), type, flags, stream.to_bytes(4, "big"))


def encode(type: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it goes over the wire."""
    return b"%b%b" % (head(type, flags, stream, len(payload)), payload)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values.items())
    return encode(SETTINGS, 0, 0, payload)


def settings_of(payload: bytes) -> Iterator[tuple[int, int]]:
    """Keys and values of a SETTINGS frame."""
    for at in range(0, len(payload) - 5, 6):
        yield int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")


def window_update(stream: int, bytes: int) -> bytes:
    """Lets the peer send so many bytes more."""
    return encode(WINDOW_UPDATE, 0, stream, bytes.to_bytes(4, "big"))


def head_of(data: bytes, largest: int) -> tuple[int, int, int]:
    """Payload size, type and flags of a frame, by its first `HEAD` bytes, or more.

    Raises:
        ProtocolError: the frame is larger than allowed.
    """
    size = int.from_bytes(data[:3], "big")
    if size > largest:
        raise ProtocolError(f"a frame of {size} bytes; {largest} are allowed")
    return size, data[3], data[4]


class Reader:
    """Cuts what arrives into frames. `largest`: payload bytes that we have told the peer a frame may have."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole by now.

        Raises:
            ProtocolError: a frame is larger than allowed, or its padding is.
        """
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= HEAD:
            start = at + HEAD
            size, kind, flags = head_of(data[at:start], self._largest)
            if end - start < size:
                break
            stream = int.from_bytes(data[at + 5 : start], "big") & 0x7FFF_FFFF
            at = start + size
            payload = data[start:at]
            if flags & (PADDED | PRIORITY) and kind in (DATA, HEADERS):
                payload = bare(kind, flags, payload)
            yield Frame(kind, flags, stream, payload)
        self._rest = data[at:]


def bare(kind: int, flags: int, payload: bytes) -> bytes:
    """A payload without padding and priority.

    Raises:
        ProtocolError: its padding is longer than the frame.
    """
    start, padding = 0, 0
    if flags & PADDED:
        start, padding = 1, payload[0] if payload else 0
    if kind == HEADERS and flags & PRIORITY:
        start += 5
    if start + padding > len(payload):
        raise ProtocolError("a frame's padding is longer than the frame")
    return payload[start : len(payload) - padding]
