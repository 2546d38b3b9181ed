"""A measurement's course on stderr, while it goes: nothing where stderr is no terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tandem_cli.benchmark.driving import Course
from tandem_cli.benchmark.figures import distribution
from tandem_cli.text import seconds

_LOOK: Final = 0.25
_RECENT: Final = 200
"""Requests whose latencies are shown."""


@asynccontextmanager
async def shown(course: Course, share: Callable[[], float | None]) -> AsyncIterator[None]:
    """Shows the course for the block; `share` says how much of it is done, from 0 to 1, where that can be known."""
    if not sys.stderr.isatty():
        yield
        return
    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)

        async def look() -> None:
            while True:
                done = share()
                progress.update(task, total=None if done is None else 1.0, completed=done, description=line(course))
                await asyncio.sleep(_LOOK)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


def line(course: Course) -> str:
    """The course in a line; latencies of the latest requests."""
    recent = [sample for sample in course.samples[-_RECENT:] if not sample.error]
    failed = sum(bool(sample.error) for sample in course.samples)
    parts = [f"{len(course.samples)} done", f"{course.under_way} under way", f"{failed} failed"]
    for name, values in (
        ("TTFT", [value for sample in recent if (value := sample.ttft) is not None]),
        ("e2e", [sample.latency for sample in recent]),
    ):
        if found := distribution(values):
            parts.append(f"{name} p50 {seconds(found.p50)} p99 {seconds(found.p99)}")
    return " · ".join(parts)
