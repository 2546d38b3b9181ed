"""Whose request it is, by address: the nearest one on its way that is no proxy of ours.

Each proxy appends whom it got a request from, so the list is true from its right end up to the first address that is
not trusted; everything left of that is what somebody claims.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tandem_router.frontends.clients import Scope
from tandem_router.limits.settings import Network

Address = IPv4Address | IPv6Address

_SITE = 64
"""Bits of an IPv6 address that its owner can't choose: all below are one client."""


def client_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """The client's address, as limits count by it; of IPv6 the network of 64 bits.

    Args:
        scope: of the request.
        trusted: proxies that are believed.
    """
    peer = _parsed((scope.get("client") or ("",))[0])
    if peer is None:
        return ""
    return _named(_origin(peer, scope["headers"], trusted) if trusted else peer)


def _origin(peer: Address, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> Address:
    if not _within(peer, trusted):
        return peer
    hops: list[str] = []
    real = ""
    for name, value in headers:
        if name == b"x-forwarded-for":
            hops += value.decode("latin-1").split(",")
        elif name == b"x-real-ip":
            real = value.decode("latin-1")
    nearest = peer
    for hop in reversed(hops or [real]):
        address = _parsed(hop)
        if address is None:
            return nearest
        nearest = address
        if not _within(address, trusted):
            return nearest
    return nearest


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _parsed(text: str) -> Address | None:
    """An address, which may have a port: 1.2.3.4:80, [::1]:80."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _named(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _SITE), strict=False))
    return str(address)
