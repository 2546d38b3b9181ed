"""The seam between the schemes and what they have in common.

A scheme knows how to pin its URI to content that never changes, and how to write that content into an empty folder, or
that it lies ready somewhere. Locks, temporary folders, manifests, links and the cache are the same for all
(`tandem_engine.sources.placing`), and so are resuming, checking and repeating downloads
(`tandem_engine.sources.downloading`).
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tandem_engine.sources.progress import Report, silent


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how long apart something is tried that fails for the moment.

    The count starts anew with every attempt that got some bytes, so that a bad line still ends a large file.
    """

    attempts: int = 6
    """Tries without any byte gained before it is given up."""
    first: float = 0.5
    """Seconds before the second try; each pause is twice the one before, less up to half of it by chance."""
    longest: float = 30.0
    """Seconds of the longest pause, a Retry-After of the other side included."""


@dataclass(frozen=True)
class Work:
    """What a fetch takes from its surroundings."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    report: Report = silent
    """Called from several threads. What it raises ends the fetch."""
    backoff: Backoff = Backoff()
    parallel: int = 4
    """Files that are downloaded side by side."""
    timeout: float = 30.0
    """Seconds without a byte after which a connection counts as dead."""
    chance: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of a model folder, as the manifest lists it. `name` is a relative path with slashes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its store lists it, before a byte was fetched.

    Attributes:
        name: Relative path with slashes, checked by `naming.safe_name`.
        size: Bytes.
        digests: Hexadecimal checksums by algorithm: any of those in `digests.ALGORITHMS`.
        version: What the store calls this very content, such as an ETag, to notice a change.
    """

    name: str
    size: int
    digests: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """An open download. `start` is the offset of its first byte: 0 where the store did not honour a range."""

    start: int
    pieces: Iterator[bytes]


class Store(Protocol):
    """Where remote files come from. Used by several threads at once."""

    def open(self, file: RemoteFile, start: int) -> AbstractContextManager[Body]:
        """Begin to read `file` at byte `start`.

        Raises:
            Transient: here or while the pieces are read, for what may work the next time.
            SourceError: for what will not.
        """
        ...


@dataclass(frozen=True, slots=True)
class InPlace:
    """Content that lies ready in a folder and is used there, without a copy."""

    uri: str
    folder: Path


class Content(Protocol):
    """Content that has to be written somewhere first."""

    @property
    def uri(self) -> str:
        """The URI that names this very content."""
        ...

    @property
    def key(self) -> str:
        """What decides the bytes that are written: equal keys, equal folders."""
        ...

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Fill a folder that is empty or holds what an earlier, interrupted call left. Files are synced to disk."""
        ...


class Source(Protocol):
    """One URI."""

    def resolve(self, work: Work) -> InPlace | Content:
        """Pin the URI: the same content for as long as it exists, whatever a branch or prefix moves on to."""
        ...
