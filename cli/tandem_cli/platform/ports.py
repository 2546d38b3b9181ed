"""The port that clients use."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tandem_cli.platform.errors import PlatformError

_OF_THE_PORT: Final = "choose another with --port (0: any that is free), or end the program that has it"
_OF_THE_HOST: Final = "give --host an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them"


@contextmanager
def router_port(host: str, port: int) -> Iterator[int]:
    """`port` if it is free, any free one for 0; nobody is given it during the block but the router, which asks for it.

    It is bound here, too, and not listened at: Linux lets a server share such a port, and keeps connections and
    programs that want any port off it.

    Raises:
        PlatformError: it is taken, or `host` is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((host, port))
        except OSError as error:
            raise PlatformError(
                f"the router can't listen at {host}:{port}: {error.strerror or error}",
                hint=_OF_THE_PORT if error.errno in (errno.EADDRINUSE, errno.EACCES) else _OF_THE_HOST,
            ) from None
        yield held.getsockname()[1]
