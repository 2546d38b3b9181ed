"""Random bytes by the dozen: a system call for each would cost a request more than all that it does with them."""

from collections.abc import Callable
from typing import Final

_DRAWN: Final = 4096


class Pool:
    """Draws many bytes at once from `source(n)` and hands each out once."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._bytes = b""
        self._at = 0

    def take(self, number: int) -> bytes:
        """`number` bytes that nobody else gets; at most 4096."""
        if self._at + number > len(self._bytes):
            self._bytes, self._at = self._source(_DRAWN), 0
        start = self._at
        self._at += number
        return self._bytes[start : self._at]
