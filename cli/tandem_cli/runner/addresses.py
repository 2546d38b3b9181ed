"""Loopback addresses: each pod gets one of its own, so that all of them can use the same ports.

Linux takes any address of 127.0.0.0/8 as its own, without a route and without root.
"""

import socket
from collections.abc import Iterator, Sequence
from random import Random


def loopback_addresses(random: Random, ports: Sequence[int]) -> Iterator[str]:
    """Addresses on which nothing listens on any of `ports`, from a random place of 127.64.0.0/10 on."""
    start = random.randrange(2**22)
    for offset in range(2**22):
        low = (start + offset) % 2**22
        address = f"127.{64 + (low >> 16)}.{low >> 8 & 255}.{low & 255}"
        if low & 255 not in (0, 255) and all(_free(address, port) for port in ports):
            yield address


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
