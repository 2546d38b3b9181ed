"""Free places on loopback for the programs that tests start."""

import itertools
import os
import socket

_numbers = itertools.count(1)


def free_host() -> str:
    """A loopback address for one program alone, so that all may have the same ports.

    Unlike a free port it can't be taken by another test run before its program binds it: it follows from this
    process's id.
    """
    process = os.getpid()
    return f"127.{50 + process % 200}.{process // 200 % 250}.{next(_numbers) % 250 + 1}"


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
