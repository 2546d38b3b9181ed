"""The port that clients use."""

import errno
import socket
from typing import Final

from tandem_cli.platform.errors import PlatformError

_OF_THE_PORT: Final = "choose another with --port (0: any that is free), or end the program that has it"
_OF_THE_HOST: Final = "give --host an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them"


def router_port(host: str, port: int) -> int:
    """`port` if it is free, any free one for 0.

    Raises:
        PlatformError: it is taken, or `host` is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PlatformError(
                f"the router can't listen at {host}:{port}: {error.strerror or error}",
                hint=_OF_THE_PORT if error.errno in (errno.EADDRINUSE, errno.EACCES) else _OF_THE_HOST,
            ) from None
        taken: int = probe.getsockname()[1]
        return taken
