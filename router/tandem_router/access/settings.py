"""What a router is told about who may use it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Keys of one router. Durations are in seconds."""

    required: bool = True
    """False: everybody may do everything. Only --allow-no-auth asks for it."""
    static: str | None = None
    """Digest of the key that may do everything and needs no registry; None: there is none."""
    service_key: str = field(default="", repr=False)
    """The key that routers, operator and registry know each other by; empty: there is none."""
    store: bool = False
    """Keys of the registry's store are accepted, too."""
    max_stale: float = 86_400.0
    """How long keys of the store are accepted while the registry can't be asked."""
    poll: float = 1.0
    """Between two questions to the registry."""
    virtual_open: bool = False
    """/virtual needs no key, but for /virtual/admin."""
