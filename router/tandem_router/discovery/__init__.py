"""Where a router learns what there is to serve: a source tells whole topologies, each in place of the one before."""

from collections.abc import Callable
from typing import Protocol

from tandem_api.topology import Topology


class NoCluster(Exception):
    """Nothing says where there is a Kubernetes API server, or it can't be read."""


class Source(Protocol):
    """A file, or Kubernetes."""

    async def follow(self, tell: Callable[[Topology], None]) -> None:
        """Tells the topology as it is, then every change, until it is cancelled. Survives what is wrong for a while."""
