"""Checksums that stores have: SHA-256 (LFS, S3), Git's blob id (small files of the Hub), MD5 and CRC-32 (S3)."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

PIECE = 1 << 20
"""Bytes that are read and hashed at once."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _git_blob(size: int) -> _Hash:
    hash = hashlib.sha1(usedforsecurity=False)
    hash.update(b"blob %d\0" % size)
    return hash


ALGORITHMS: Mapping[str, Callable[[int], _Hash]] = {
    "sha256": lambda _: hashlib.sha256(),
    "git-sha1": _git_blob,
    "md5": lambda _: hashlib.md5(usedforsecurity=False),
    "crc32": lambda _: _Crc32(),
}
"""Makes a hash for content of so many bytes. A store's digests of other kinds are of no use and not passed on."""


class Digester:
    """Takes several checksums of the same bytes at once; SHA-256 is always among them."""

    def __init__(self, size: int, algorithms: Iterable[str] = ()) -> None:
        self._hashes = {name: ALGORITHMS[name](size) for name in {"sha256", *algorithms}}

    def update(self, data: bytes) -> None:
        for hash in self._hashes.values():
            hash.update(data)

    def digests(self) -> dict[str, str]:
        return {name: hash.hexdigest() for name, hash in self._hashes.items()}


def read_into(digester: Digester, path: Path) -> int:
    """Feed a file to a digester; return its size in bytes."""
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digester.update(piece)
            size += len(piece)
    return size


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digester = Digester(0)
    read_into(digester, path)
    return digester.digests()["sha256"]
