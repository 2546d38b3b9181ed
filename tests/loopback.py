"""Free places on loopback for the programs that tests start."""

import fcntl
import functools
import itertools
import os
import socket
from pathlib import Path
from typing import Final

_numbers = itertools.count(1)


def free_host() -> str:
    """A loopback address for one program alone, so that all may have the same ports.

    Unlike a free port it can't be taken by another test run before its program binds it: it follows from this
    process's id.
    """
    process = os.getpid()
    return f"127.{50 + process % 200}.{process // 200 % 250}.{next(_numbers) % 250 + 1}"


def free_port(count: int = 1) -> int:
    """The first of so many ports in a row that were free on 127.0.0.1 a moment ago.

    Nobody else is given them before their program binds them: they are below those that the kernel hands out, and this
    process has a share of its own.
    """
    start = _FIRST_PORT + _own_share() * _SHARE
    for first in range(start, start + _SHARE - count):
        if all(port not in _given and _free(port) for port in range(first, first + count)):
            _given.update(range(first, first + count))
            return first
    _given.clear()  # the earliest have ended long ago
    return free_port(count)


_SHARE: Final = 200
_SHARES: Final = 40
_FIRST_PORT: Final = 12_000
_given: Final[set[int]] = set()


@functools.cache
def _own_share() -> int:
    """The first that no other process has: each holds the lock of its own until it ends."""
    folder = Path(f"/tmp/tandem-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for share in range(_SHARES):
        lock = os.open(folder / str(share), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return share
    raise RuntimeError(f"{_SHARES} processes have a share of the ports")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
