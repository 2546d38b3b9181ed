"""Puts fetched pieces where they belong, and takes nothing on trust: checksum, order, sizes, and that the end came."""

from collections.abc import Sequence
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

    def take(self, message: bytes) -> None:
        """Copies one message's data to its place.

        Raises:
            FetchFailed: "checksum" where the data was damaged, "cut" where it is not what must come next.
        """
        try:
            piece = pieces.decode(message)
        except ValueError as error:
            raise FetchFailed("checksum", f"a damaged message: {error}") from error
        if not piece.intact:
            raise FetchFailed("checksum", f"damaged data of layer {piece.layer} at {piece.offset}")
        if self._complete or not self._follows(piece):
            raise FetchFailed("cut", f"layer {piece.layer} at {piece.offset} is not what must come next")
        end = piece.offset + len(piece.data)
        self._into[piece.layer][piece.offset : end] = piece.data
        self._layer, self._offset = piece.layer, end
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

    def _follows(self, piece: pieces.Piece) -> bool:
        if piece.layer >= len(self._into) or piece.offset + len(piece.data) > len(self._into[piece.layer]):
            return False
        if piece.layer == self._layer:
            return piece.offset == self._offset
        return piece.layer == self._layer + 1 and piece.offset == 0 and self._offset == len(self._into[self._layer])
