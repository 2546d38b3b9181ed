"""`FetchResponse` written and read without a copy of its data: from where it lies, and straight to its place.

The generated classes copy a message's data on every step: into the message, into the serialised bytes, out of the
parsed message. At gigabytes per second these copies are the cost. The bytes on the wire are the same protobuf.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

import xxhash

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


def encode(layer: int, offset: int, data: memoryview, *, last: bool) -> tuple[bytes, memoryview]:
    """The message's bytes in two pieces, of which the second is the data itself."""
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
    return head, data


def receive(source: BufferedIOBase, size: int, place: Callable[[int, int, int], memoryview]) -> Piece:
    """Reads a message's `size` bytes. Fields that this release does not know are skipped.

    Args:
        source: What to read from; it must give as many bytes as it is asked for.
        size: Of the message.
        place: Gives, for a layer, an offset and a size, the writable bytes where such data belongs. They are asked for
            when the data comes, which every writer of protobuf puts after layer and offset.

    Raises:
        ValueError: It is no FetchResponse.
    """
    message = _Message(source, size)
    layer = offset = checksum = 0
    last = False
    data: memoryview | None = None
    while message.left:
        tag = message.varint()
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value = message.varint()
            if field in (1, 2) and data is not None:
                raise ValueError("data before its place")
            if field == 1:
                layer = value
            elif field == 2:
                offset = value
            elif field == 5:
                last = bool(value)
        elif kind == 1:
            value = int.from_bytes(message.take(8), "little")
            if field == 4:
                checksum = value
        elif kind == 2:
            length = message.varint()
            if length > message.left:
                raise ValueError("a field is longer than its message")
            if field == 3:
                data = place(layer, offset, length)
                message.fill(data)
            else:
                message.take(length)
        elif kind == 5:
            message.take(4)
        else:
            raise ValueError(f"wire type {kind}")
    return Piece(layer, offset, place(layer, offset, 0) if data is None else data, checksum, last)


class _Message:
    """Reads within a message's end."""

    def __init__(self, source: BufferedIOBase, size: int) -> None:
        self._source = source
        self.left = size

    def take(self, size: int) -> bytes:
        self.left -= size
        got = self._source.read(size) if self.left >= 0 else b""
        if len(got) < size:
            raise ValueError("the message is cut")
        return got

    def fill(self, into: memoryview) -> None:
        self.left -= len(into)
        if self._source.readinto(into) < len(into):
            raise ValueError("the message is cut")

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a varint is longer than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
