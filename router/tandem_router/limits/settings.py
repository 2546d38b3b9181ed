"""What a router is told about limits."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from tandem_api.registry import KeyLimits

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits of one router. None: there is none."""

    key: KeyLimits = field(default_factory=KeyLimits)
    """Of each key that has none of its own."""
    address: KeyLimits = field(default_factory=KeyLimits)
    """Of each client address."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whom to believe where a request comes from."""
    redis_url: str = field(default="", repr=False)
    """What replicas count in together; empty: each counts for itself."""
