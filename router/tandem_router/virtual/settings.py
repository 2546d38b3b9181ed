"""What a router is told about virtual models."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VirtualSettings:
    """Virtual models of one router."""

    alone: bool = False
    """Nothing else is served."""
    enabled: bool = True
    """Serve them behind /virtual."""
    failures: bool = False
    """The failure catalogue is among them."""
    listed: bool = False
    """They are in /v1, too, with all surfaces. Models that are served for real go before them."""
    models: Path | None = None
    """YAML file with more of them."""
    replicas: int = 1
    """Routers that share the traffic. Several can't be changed through one of them."""
