"""What a platform is doing while it comes up: a live table on a terminal, a line for each step elsewhere."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tandem_cli.platform import ROUTER, Platform
from tandem_cli.runner import Pod, last_lines, readable
from tandem_cli.text import seconds

_LOOK = 0.1
"""Seconds between two looks at pods that do not change."""
_REPEAT = 10.0
"""Seconds after which a step that goes on is told again where no terminal redraws it."""
_DETAIL = 70
"""Characters of a log line that are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one pod is doing."""

    pod: str
    what: str
    detail: str


def step_of(name: str, pod: Pod | None) -> Step:
    """The step that a pod is at, and the last thing that its log said about it."""
    if pod is None:
        return Step(name, "starting", "")
    state = pod.state
    if state.ready:
        return Step(name, "ready", "")
    for container in state.init_containers:
        if container.phase != "terminated" or container.exit_code != 0:
            return Step(name, container.name.replace("-", " "), _last(pod, container.name))
    for container in state.containers:
        if container.restarts:
            return Step(name, f"restarting ({container.restarts})", container.message)
        if not container.ready:
            return Step(name, "starting" if name == ROUTER else "starting engine", _last(pod, container.name))
    return Step(name, "starting", "")


def _last(pod: Pod, container: str) -> str:
    lines = last_lines(pod.log(container), 1)
    return readable(lines[0])[:_DETAIL] if lines else ""


@asynccontextmanager
async def shown(platform: Platform, clock: Callable[[], float]) -> AsyncIterator[None]:
    """Shows the platform's steps on stderr for as long as the block lasts."""
    show = _redraw if sys.stderr.isatty() else _tell
    showing = asyncio.create_task(show(platform, clock))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def _steps(platform: Platform) -> Sequence[Step]:
    return [step_of(name, platform.pods.get(name)) for name in platform.names]


async def _tell(platform: Platform, clock: Callable[[], float]) -> None:
    """A line for each step of each pod, however short it is, again every now and then while it goes on."""
    begun: dict[str, tuple[str, float, float]] = {}
    changes: asyncio.Queue[Sequence[Step]] = asyncio.Queue()
    with platform.watched(lambda: changes.put_nowait(_steps(platform))):
        steps = _steps(platform)
        while True:
            moment = clock()
            for step in steps:
                what, since, told = begun.get(step.pod, ("", moment, moment))
                if step.what != what:
                    begun[step.pod] = (step.what, moment, moment)
                    print(f"{step.pod}: {step.what}", file=sys.stderr, flush=True)
                elif step.what != "ready" and moment - told >= _REPEAT:
                    begun[step.pod] = (what, since, moment)
                    detail = f": {step.detail}" if step.detail else ""
                    print(f"{step.pod}: {what} for {seconds(moment - since)}{detail}", file=sys.stderr, flush=True)
            try:
                async with asyncio.timeout(_LOOK):
                    steps = await changes.get()
            except TimeoutError:
                steps = _steps(platform)


async def _redraw(platform: Platform, clock: Callable[[], float]) -> None:
    """A table that is redrawn in place, and goes when all is ready."""
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    begun: dict[str, tuple[str, float]] = {}
    spinner = Spinner("dots")

    def draw() -> Table:
        moment = clock()
        grid = Table.grid(padding=(0, 2))
        for _ in range(5):
            grid.add_column(no_wrap=True, overflow="ellipsis")
        for step in _steps(platform):
            if begun.get(step.pod, ("", 0.0))[0] != step.what:
                begun[step.pod] = (step.what, moment)
            ready = step.what == "ready"
            took = "" if ready else seconds(moment - begun[step.pod][1])
            mark = Text("✓", style="green") if ready else spinner
            grid.add_row(mark, step.pod, step.what, Text(took, style="dim"), Text(step.detail, style="dim"))
        return grid

    with Live(get_renderable=draw, console=Console(stderr=True), transient=True, refresh_per_second=8):
        await asyncio.Event().wait()
