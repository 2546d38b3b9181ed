"""A folder that goes away with its user, even with one that is killed.

Pods keep their volumes, files and logs in it. `hold` goes to every process that still uses the folder when the runner
is gone: the folder's janitor waits until none has it open.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder of one's own, and the descriptor that keeps it."""

    folder: Path
    hold: int


@asynccontextmanager
async def scratch_folder(prefix: str = "tandem-", parent: Path | None = None) -> AsyncIterator[Scratch]:
    """A temporary folder (in `parent`, default the system's), removed at the end of the block or of this process."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    read, hold = os.pipe()
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("janitor.py")), str(folder)]
    try:
        janitor = await asyncio.create_subprocess_exec(*program, stdin=read, start_new_session=True)
    except BaseException:
        os.close(hold)
        os.rmdir(folder)
        raise
    finally:
        os.close(read)
    try:
        yield Scratch(folder, hold)
    finally:
        os.close(hold)
        # The janitor needs no deadline of its own: it outlives this process where something still uses the folder.
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await janitor.wait()
