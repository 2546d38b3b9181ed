"""What a long fetch says about itself: values for a callback, and the writer of lines that the command uses."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO

Step = Literal["resolve", "wait", "download", "convert", "check", "done", "error"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One report. `done` and `total` are bytes, both 0 where a step has no size."""

    step: Step
    message: str = ""
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Report nothing."""


class LineWriter:
    """Writes reports to a stream: at most one line a second, but a step's first and every message that differs.

    Safe to call from several threads.
    """

    def __init__(
        self, stream: TextIO, form: Literal["json", "text"], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._form = form
        self._clock = clock
        self._lock = threading.Lock()
        self._shown = Progress("resolve")
        self._shown_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            moment = self._clock()
            same = (progress.step, progress.message) == (self._shown.step, self._shown.message)
            finished = progress.total > 0 and progress.done == progress.total
            if same and not finished and moment - self._shown_at < 1.0:
                return
            if progress == self._shown and moment - self._shown_at < 1.0:
                return
            self._shown, self._shown_at = progress, moment
            line = _as_json(progress) if self._form == "json" else _as_text(progress)
            self._stream.write(line + "\n")
            self._stream.flush()


def _as_json(progress: Progress) -> str:
    sizes = {"bytes": progress.done, "total_bytes": progress.total} if progress.total else {}
    return json.dumps({"step": progress.step, "message": progress.message} | sizes)


def _as_text(progress: Progress) -> str:
    line = f"{progress.step:<9} {progress.message}"
    if progress.total:
        line += (
            f"  {megabytes(progress.done)} of {megabytes(progress.total)} ({progress.done * 100 // progress.total} %)"
        )
    return line.rstrip()


def megabytes(count: int) -> str:
    """A number of bytes for people: 93.8 MB, 1.2 GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
