"""The tandem command as a program of its own, as people start it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = [sys.executable, "-m", "tandem_cli"]
_SECONDS = 120


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM")}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def tandem(*args: str | Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [*PROGRAM, *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(**env),
        timeout=_SECONDS,
        check=False,
    )


@dataclass
class Up:
    """A `tandem up` that serves."""

    process: subprocess.Popen[bytes]
    url: str
    table: str
    errors: Path

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_SECONDS)


@contextmanager
def tandem_up(folder: Path, *args: str | Path, **env: str) -> Iterator[Up]:
    """`tandem up --port 0 ...`, from its table on; ended at the end of the block."""
    output, errors = folder / "stdout", folder / "stderr"
    command = [*PROGRAM, "up", "--port", "0", *map(str, args)]
    with output.open("w") as stdout, errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(**env))
    try:
        deadline = time.monotonic() + _SECONDS
        while "Ctrl-C ends it" not in errors.read_text():
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, errors.read_text()
            time.sleep(0.02)
        table = output.read_text()
        yield Up(process, table.splitlines()[0].split()[-1], table, errors)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
