"""What a decode worker has probably cached: prompts' beginnings that this router has sent to it, bounded.

Only an estimate: a worker evicts as it likes, and other routers send to it too. It decides whether moving KV is worth
the while (`routing.disaggregateFrom`), never what an answer is.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

PIECE: Final = 256
"""Bytes of prompt JSON of one entry."""


class PrefixIndex:
    """The pieces of prompts that one worker has seen, the least recently used forgotten first."""

    def __init__(self, capacity: int = 65_536) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def match(self, prompt: bytes) -> int:
        """Bytes of `prompt`'s beginning that have been seen."""
        length = 0
        for digest in _chain(prompt):
            if digest not in self._seen:
                break
            length += PIECE
        return length

    def add(self, prompt: bytes) -> None:
        """Remembers a prompt that the worker has got."""
        for digest in _chain(prompt):
            self._seen[digest] = None
            self._seen.move_to_end(digest)
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)


def _chain(prompt: bytes) -> Iterator[int]:
    """One digest for each whole piece, over it and all before it."""
    digest = 0
    for start in range(0, len(prompt) - PIECE + 1, PIECE):
        digest = hash((digest, prompt[start : start + PIECE]))
        yield digest
