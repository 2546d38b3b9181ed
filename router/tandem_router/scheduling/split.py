"""Which version of a service serves a key: every router replica finds the same answer without asking another.

A key's bucket is FNV-1a-64(salt + key) mod 1,000. Versions own the buckets from 0 upwards in reverse order of the list,
the first one the rest: with two versions, a change of weights moves only the keys whose share moved. The salt is empty
for a plain split and the experiment's id inside an experiment, where the challenger counts as last.

While a version can't serve, its keys alone are hashed again, FNV-1a-64(salt + key + "/" + its name), over the rest by
weight: nobody else moves, and they return when it does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

BUCKETS: Final = 1000

_OFFSET: Final = 0xCBF29CE484222325
_PRIME: Final = 0x100000001B3
_MASK: Final = 0xFFFFFFFFFFFFFFFF


def fnv1a_64(data: bytes) -> int:
    """Fowler-Noll-Vo 1a, 64 bits."""
    digest = _OFFSET
    for byte in data:
        digest = ((digest ^ byte) * _PRIME) & _MASK
    return digest


@dataclass(frozen=True, slots=True)
class Share:
    """A version's name and its weight in percent."""

    name: str
    weight: int


def choose(shares: Sequence[Share], key: str, ready: Callable[[str], bool], salt: str = "") -> str | None:
    """The name of the version that serves `key`; None where no version with a weight is ready.

    `shares` are in the order of the manifest; `ready` says whether a version can serve now. A key of which there is no
    other choice isn't hashed at all, so that the common case of one version costs nothing.
    """
    left = [share for share in shares if share.weight > 0]
    hashed = salt + key
    while left:
        name = left[0].name if len(left) == 1 else _owner(left, fnv1a_64(hashed.encode()) % BUCKETS)
        if ready(name):
            return name
        left = [share for share in left if share.name != name]
        hashed = f"{hashed}/{name}"
    return None


def effective(shares: Sequence[Share], ready: Callable[[str], bool]) -> dict[str, int]:
    """Percent that each version really serves: an unready one's share goes to the others by weight, rounded."""
    serving = {share.name: share.weight for share in shares if ready(share.name)}
    total = sum(serving.values())
    return {share.name: round(100 * serving.get(share.name, 0) / total) if total else 0 for share in shares}


def _owner(shares: Sequence[Share], bucket: int) -> str:
    """Weights count in proportion to their sum, which is 100 unless an unready version is left out."""
    total = sum(share.weight for share in shares)
    position = bucket * total
    end = 0
    for share in reversed(shares[1:]):
        end += share.weight * BUCKETS
        if position < end:
            return share.name
    return shares[0].name
