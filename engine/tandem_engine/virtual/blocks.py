"""The paged KV cache of the virtual engine, as far as it is bookkeeping: blocks, who holds them, what full ones hold.

As in vLLM: a block is shared by all sequences whose prompts begin alike, a block that nobody holds keeps its content
until it is taken for another, and the one unused longest is taken first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

_UNFILLED: Final = 0


class BlockCache:
    """A fixed number of blocks, named 0..total-1. A full block's content is a digest of its KV bytes."""

    def __init__(self, total: int) -> None:
        self._holders = [0] * total
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(total))
        self._by_key: dict[int, int] = {}
        self._key = [_UNFILLED] * total
        self._content = [0] * total

    @property
    def total(self) -> int:
        return len(self._holders)

    @property
    def free(self) -> int:
        """Blocks that no sequence holds, whether or not they still have content."""
        return len(self._free)

    def match(self, keys: Iterable[int]) -> list[int]:
        """The blocks that hold the longest known beginning of `keys`."""
        found = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def need(self, matched: Sequence[int], total: int) -> int:
        """Free blocks that a sequence of `total` blocks takes, given those of its own that are matched."""
        return total - sum(1 for block in matched if self._holders[block])

    def freed_by(self, blocks: Iterable[int]) -> int:
        """Blocks that would be free if a holder of `blocks` let go."""
        return sum(1 for block in blocks if self._holders[block] == 1)

    def hold(self, blocks: Iterable[int]) -> None:
        """Takes blocks that have content."""
        for block in blocks:
            if not self._holders[block]:
                del self._free[block]
            self._holders[block] += 1

    def take(self, count: int) -> list[int]:
        """Takes blocks for fresh content.

        Raises:
            IndexError: fewer are free.
        """
        if count > len(self._free):
            raise IndexError(f"{len(self._free)} KV blocks are free, {count} wanted")
        taken = []
        for _ in range(count):
            block, _none = self._free.popitem(last=False)
            self._forget(block)
            self._holders[block] = 1
            taken.append(block)
        return taken

    def let_go(self, blocks: Iterable[int]) -> None:
        """Gives blocks back. The end of a prompt is taken again before its beginning, which more prompts share."""
        for block in reversed(list(blocks)):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None
                if self._key[block] == _UNFILLED:
                    self._free.move_to_end(block, last=False)

    def fill(self, block: int, key: int, content: int) -> None:
        """Says what a full block holds. Where another block holds the same already, that one stays the known one."""
        self._content[block] = content
        if key not in self._by_key:
            self._forget(block)
            self._key[block] = key
            self._by_key[key] = block

    def content(self, block: int) -> int:
        """The digest of a full block."""
        return self._content[block]

    def _forget(self, block: int) -> None:
        key = self._key[block]
        if key != _UNFILLED:
            del self._by_key[key]
            self._key[block] = _UNFILLED
