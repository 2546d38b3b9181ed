"""Programs that a test run starts for itself: logs in files, and none outlives the run, even a killed one."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_END_SECONDS = 60


class BackgroundProgram:
    """A program in the background. The kernel kills it when the thread that started it ends (PR_SET_PDEATHSIG)."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(env),
                start_new_session=True,  # Ctrl-C is the test run's: it ends the programs in their order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises `RuntimeError` with the log's end if the program has ended."""
        if self._process.poll() is not None:
            end = self.log.read_text(errors="replace")[-3_000:]
            raise RuntimeError(f"{self.log.stem} ended with {self._process.returncode}; {self.log} ends with:\n{end}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal and waits for the end; SIGKILL where that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
