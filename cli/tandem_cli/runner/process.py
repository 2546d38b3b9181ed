"""One run of a container's command: a keeper, and through it the whole tree of processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_ORPHAN_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL when the runner is gone: nobody waits for a drain then."""


class Process:
    """A running command. Its exit status is 128 + n where signal n ended it, as in containers."""

    def __init__(self, keeper: asyncio.subprocess.Process, lifeline: int) -> None:
        self._keeper = keeper
        self._lifeline = lifeline

    @property
    def pid(self) -> int:
        """Of the keeper: the main process is its child."""
        return self._keeper.pid

    async def wait(self) -> int:
        """The exit status, once nothing of the tree is left."""
        code = await self._keeper.wait()
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Sends a signal to the main process; a process that has ended gets none."""
        if self._keeper.returncode is None:
            with suppress(BrokenPipeError):
                os.write(self._lifeline, bytes([number]))

    async def end(self, grace: float, hurry: asyncio.Event) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds or as soon as `hurry` is set. Returns the exit status."""
        self.signal(signal.SIGTERM)
        ended, hurried = asyncio.create_task(self.wait()), asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait({ended, hurried}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            hurried.cancel()
        self.signal(signal.SIGKILL)
        return await self.wait()


@asynccontextmanager
async def start_process(
    argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, hold: int | None
) -> AsyncIterator[Process]:
    """Starts `argv` with its output appended to `log`; what still runs at the end of the block is killed.

    Args:
        argv: the program, found on `env`'s PATH, and its arguments.
        env: the whole environment.
        cwd: working folder.
        log: takes standard output and error.
        hold: a descriptor that stays open as long as anything of the tree runs.
    """
    keeper_program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), str(_ORPHAN_GRACE)]
    read, lifeline = os.pipe()
    try:
        with log.open("ab") as output:
            keeper = await asyncio.create_subprocess_exec(
                *keeper_program,
                *argv,
                stdin=read,
                stdout=output,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                pass_fds=[] if hold is None else [hold],
            )
    except BaseException:
        os.close(lifeline)
        raise
    finally:
        os.close(read)
    process = Process(keeper, lifeline)
    try:
        yield process
    finally:
        process.signal(signal.SIGKILL)
        # Short, since nothing survives SIGKILL; shielded, so that a cancelled caller leaves nothing behind either.
        await asyncio.shield(process.wait())
        os.close(lifeline)
