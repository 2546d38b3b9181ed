"""`FetchResponse` written and read without copying its data more than once.

The generated classes copy a message's data on every step: into the message, into the serialised bytes, out of the
parsed message. At gigabytes per second these copies are the cost. The bytes on the wire are the same protobuf.
"""

import struct
from dataclasses import dataclass
from typing import Final

import xxhash

STREAM_OPTIONS: Final = (
    ("grpc.http2.max_frame_size", 4 * 2**20),
    ("grpc.http2.lookahead_bytes", 16 * 2**20),
    ("grpc.experimental.tcp_min_read_chunk_size", 2**20),
    ("grpc.experimental.tcp_read_chunk_size", 2**20),
    ("grpc.experimental.tcp_max_read_chunk_size", 4 * 2**20),
)
"""Of channels and servers that move KV: large frames, a window that is open at once, and read buffers of the size of a
message: of many small ones gRPC would put each message together. Measured together: a fifth less CPU."""

_LAYER: Final = b"\x08"
_OFFSET: Final = b"\x10"
_DATA: Final = b"\x1a"
_CHECKSUM: Final = b"\x21"
_LAST: Final = b"\x28\x01"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a layer's wanted bytes: `data` begins at `offset`. See `FetchResponse`."""

    layer: int
    offset: int
    data: memoryview
    checksum: int
    last: bool

    @property
    def intact(self) -> bool:
        """The data is what its sender read."""
        return xxhash.xxh3_64_intdigest(self.data) == self.checksum


def encode(layer: int, offset: int, data: memoryview, *, last: bool) -> bytes:
    """The message's bytes, data last, so that it is copied once."""
    head = (
        _LAYER
        + _varint(layer)
        + _OFFSET
        + _varint(offset)
        + _CHECKSUM
        + struct.pack("<Q", xxhash.xxh3_64_intdigest(data))
        + (_LAST if last else b"")
        + _DATA
        + _varint(len(data))
    )
    return b"".join((head, data))


def decode(message: bytes) -> Piece:
    """Reads a message; `data` is a view into it. Fields that this release does not know are skipped.

    Raises:
        ValueError: it is no FetchResponse.
    """
    view = memoryview(message)
    layer = offset = checksum = 0
    last = False
    data = view[:0]
    at = 0
    try:
        while at < len(view):
            tag, at = _read_varint(view, at)
            field, kind = tag >> 3, tag & 7
            if kind == 0:
                value, at = _read_varint(view, at)
                if field == 1:
                    layer = value
                elif field == 2:
                    offset = value
                elif field == 5:
                    last = bool(value)
            elif kind == 1:
                (value,) = struct.unpack_from("<Q", view, at)
                at += 8
                if field == 4:
                    checksum = value
            elif kind == 2:
                size, at = _read_varint(view, at)
                if at + size > len(view):
                    raise ValueError("a field is longer than its message")
                if field == 3:
                    data = view[at : at + size]
                at += size
            elif kind == 5:
                at += 4
            else:
                raise ValueError(f"wire type {kind}")
    except (IndexError, struct.error) as error:
        raise ValueError("the message is cut") from error
    return Piece(layer, offset, data, checksum, last)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")
