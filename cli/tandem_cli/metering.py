"""Progress of bytes on stderr: a bar on a terminal, a line for each step elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tandem_cli.text import size
from tandem_cli.uploading import Meter


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter for the block."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=0)

        class Bar:
            def begin(self, what: str, total: int) -> None:
                progress.reset(task, total=total, description=what)

            def at(self, done: int) -> None:
                progress.update(task, completed=done)

        yield Bar()


class _Lines:
    """A line when a step begins, and one for each quarter of a long one."""

    def __init__(self) -> None:
        self._what = ""
        self._total = 0
        self._quarter = 0

    def begin(self, what: str, total: int) -> None:
        self._what, self._total, self._quarter = what, total, 0
        print(f"{what} ({size(total)})", file=sys.stderr, flush=True)

    def at(self, done: int) -> None:
        quarter = done * 4 // self._total if self._total else 4
        if self._quarter < quarter < 4 and self._total > 50_000_000:
            print(f"{self._what}: {size(done)} of {size(self._total)}", file=sys.stderr, flush=True)
        self._quarter = quarter
