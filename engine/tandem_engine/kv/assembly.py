"""Puts fetched pieces where they belong, and takes nothing on trust: checksum, order, sizes, and that the end came."""

from collections.abc import Sequence
from io import BufferedIOBase
from typing import Literal

from tandem_engine.kv import pieces

FetchReason = Literal["gone", "refused", "busy", "checksum", "cut", "timeout", "unreachable", "cancelled"]
"""Few values: they are metric labels and the `reason` of a KvReport."""


class FetchFailed(Exception):
    """The KV did not arrive whole. What was written to the buffers must not be used."""

    def __init__(self, reason: FetchReason, message: str) -> None:
        super().__init__(message)
        self.reason: FetchReason = reason


class Assembly:
    """One fetch's destination: for each layer writable bytes, of the very length of what is wanted."""

    def __init__(self, into: Sequence[memoryview]) -> None:
        self._into = [buffer.cast("B") if buffer.nbytes else memoryview(bytearray()) for buffer in into]
        self._layer = 0
        self._offset = 0
        self._received = 0
        self._complete = False

    @property
    def received(self) -> int:
        """Bytes taken so far."""
        return self._received

    def take(self, source: BufferedIOBase, size: int) -> None:
        """Reads a message of `size` bytes, its data to where it belongs.

        Raises:
            FetchFailed: "checksum" where the data was damaged, "cut" where it is not what must come next.
        """
        try:
            piece = pieces.receive(source, size, self._place)
        except ValueError as error:
            raise FetchFailed("checksum", f"a damaged message: {error}") from error
        if not piece.intact:
            raise FetchFailed("checksum", f"damaged data of layer {piece.layer} at {piece.offset}")
        self._layer, self._offset = piece.layer, piece.offset + len(piece.data)
        self._received += len(piece.data)
        self._complete = piece.last

    def finish(self) -> int:
        """Nothing more comes. Returns the bytes.

        Raises:
            FetchFailed: "cut": not all came.
        """
        whole = self._layer == len(self._into) - 1 and self._offset == len(self._into[-1])
        if not (self._complete and whole):
            raise FetchFailed("cut", f"the stream ended after {self._received} bytes")
        return self._received

    def _place(self, layer: int, offset: int, size: int) -> memoryview:
        if self._complete or not self._follows(layer, offset, size):
            raise FetchFailed("cut", f"layer {layer} at {offset} is not what must come next")
        return self._into[layer][offset : offset + size]

    def _follows(self, layer: int, offset: int, size: int) -> bool:
        if layer >= len(self._into) or offset + size > len(self._into[layer]):
            return False
        if layer == self._layer:
            return offset == self._offset
        return layer == self._layer + 1 and offset == 0 and self._offset == len(self._into[self._layer])
