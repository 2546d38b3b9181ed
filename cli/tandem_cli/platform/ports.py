"""The port that clients use."""

import socket

from tandem_cli.platform.errors import PlatformError


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
                hint="choose another with --port (0: any that is free), or end the program that has it",
            ) from None
        taken: int = probe.getsockname()[1]
        return taken
