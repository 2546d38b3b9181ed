"""Downloads of many files: some side by side, resumed, checked, repeated while that can help.

A file that is being fetched is called NAME.part. It gets its own name once it is whole, checked and synced, so whatever
an interrupted call leaves can be carried on. What lies there already is hashed again and not trusted.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tandem_engine.sources.digests import Digester, read_into
from tandem_engine.sources.errors import Corrupt, NoSpace, Transient, Unreachable
from tandem_engine.sources.progress import Progress, megabytes
from tandem_engine.sources.source import RemoteFile, Store, Work, WrittenFile

T = TypeVar("T")


def retrying(
    work: Work,
    attempt: Callable[[], T],
    progressed: Callable[[], bool] = lambda: False,
    stop: threading.Event | None = None,
) -> T:
    """Call `attempt` until it does not raise Transient, with pauses that grow.

    Args:
        work: Its backoff.
        attempt: What may fail for the moment.
        progressed: Whether the failed attempt got any further than those before; then the count starts anew.
        stop: Ends a pause, and with it the attempts.

    Raises:
        Unreachable: all attempts failed, or the fetch is being stopped.
        SourceError: from `attempt`, at once.
    """
    stop = stop or threading.Event()
    failures = 0
    while True:
        try:
            return attempt()
        except Transient as error:
            failures = 1 if progressed() else failures + 1
            if failures >= work.backoff.attempts:
                raise Unreachable(f"{error.message}, {failures} times in a row. Try again later.") from error
            pause = work.backoff.first * 2 ** (failures - 1) * work.chance.uniform(0.5, 1.0)
            if stop.wait(min(work.backoff.longest, max(pause, error.retry_after))):
                raise Unreachable("The fetch was stopped.") from error


def download(
    store: Store, files: Sequence[RemoteFile], folder: Path, work: Work, label: str
) -> tuple[WrittenFile, ...]:
    """Fetch files into a folder, which may hold some of them or parts of them.

    Args:
        store: Where they are.
        files: What to fetch; names are safe.
        folder: Where to; subfolders are made.
        work: How many side by side, how often, whom to tell.
        label: What reports call it.

    Raises:
        NoSpace: before anything is fetched, or when the disk fills up meanwhile.
        SourceError: of the first file that failed; the others are stopped.
    """
    meter = _Meter(sum(file.size for file in files), work, label)
    present = sum(_present(folder, file) for file in files)
    need_space(folder, meter.total - present, label)
    failed: list[Exception] = []
    stop = threading.Event()

    def fetch(file: RemoteFile) -> WrittenFile | None:
        try:
            return _FileDownload(store, file, folder, work, meter, stop).run()
        except Exception as error:
            failed.append(error)
            stop.set()
            return None

    with ThreadPoolExecutor(work.parallel, thread_name_prefix="download") as pool:
        try:
            # The large ones first, so that none is left to run alone at the end.
            futures = [pool.submit(fetch, file) for file in sorted(files, key=lambda file: -file.size)]
            written = [future.result() for future in futures]
        finally:
            stop.set()  # An interrupt ends the other threads too; the pool waits for them.
    if failed:
        raise failed[0]
    return tuple(sorted((file for file in written if file is not None), key=lambda file: file.name))


def need_space(folder: Path, size: int, label: str) -> None:
    """Raise NoSpace if a folder's disk has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise NoSpace(
            f"{label} needs {megabytes(size)} more in {folder.parent}, which has {megabytes(free)} free. "
            "Free some, or choose a larger disk or volume."
        )


def _present(folder: Path, file: RemoteFile) -> int:
    for name in (file.name, file.name + ".part"):
        with contextlib.suppress(OSError):
            return min(file.size, (folder / name).stat().st_size)
    return 0


class _Meter:
    """Adds up the bytes of all files."""

    def __init__(self, total: int, work: Work, label: str) -> None:
        self.total = total
        self._done = 0
        self._report = work.report
        self._label = label
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes that are there, fewer than none where some turned out to be useless."""
        with self._lock:
            self._done += count
            self._report(Progress("download", self._label, self._done, self.total))


class _FileDownload:
    """One file, over as many connections as it takes."""

    def __init__(
        self, store: Store, file: RemoteFile, folder: Path, work: Work, meter: _Meter, stop: threading.Event
    ) -> None:
        self._store = store
        self._file = file
        self._path = folder / file.name
        self._part = folder / (file.name + ".part")
        self._work = work
        self._meter = meter
        self._stop = stop
        self._counted = 0
        self._furthest = 0

    def run(self) -> WrittenFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            os.replace(self._path, self._part)  # Of an interrupted call: checked like any part.
        self._furthest = self._part.stat().st_size if self._part.exists() else 0
        try:
            return self._retried()
        except Corrupt:
            # A part of an earlier call may be the culprit, or a proxy's bad moment. A second time it is the source.
            self._part.unlink(missing_ok=True)
            self._furthest = 0
            return self._retried()

    def _retried(self) -> WrittenFile:
        reached = self._furthest

        def progressed() -> bool:
            nonlocal reached
            before, reached = reached, self._furthest
            return reached > before

        return retrying(self._work, self._attempt, progressed, self._stop)

    def _attempt(self) -> WrittenFile:
        """Carry on where the part ends. The part stays, whatever happens."""
        self._go_on()
        file = self._file
        digester = Digester(file.size, file.digests)
        with self._part.open("ab") as part:
            if part.tell() > file.size:
                part.truncate(0)
            start = read_into(digester, self._part)
            self._count(start)
            if start < file.size:
                with self._store.open(file, start) as body:
                    if body.start != start:
                        part.truncate(body.start)
                        digester = Digester(file.size, file.digests)
                        self._count(read_into(digester, self._part))
                    for piece in body.pieces:
                        self._go_on()
                        part.write(piece)
                        digester.update(piece)
                        self._count(self._counted + len(piece))
                        if self._counted > file.size:
                            break
            part.flush()
            os.fsync(part.fileno())
        if self._counted < file.size:
            raise Transient(f"{file.name} ended after {self._counted:,} of {file.size:,} bytes")
        digests = digester.digests()
        wrong = [name for name, expected in file.digests.items() if digests[name] != expected.lower()]
        if wrong or self._counted > file.size:
            raise Corrupt(
                f"{file.name} is not what its source lists: its {wrong[0] if wrong else 'size'} differs. "
                "Try again; if it stays so, the source or a proxy on the way is damaged."
            )
        os.replace(self._part, self._path)
        return WrittenFile(file.name, file.size, digests["sha256"])

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Unreachable("The fetch was stopped.")

    def _count(self, position: int) -> None:
        self._meter.add(position - self._counted)
        self._counted = position
        self._furthest = max(self._furthest, position)
