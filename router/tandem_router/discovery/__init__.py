"""Where a router learns what there is to serve: a source yields whole topologies, each in place of the one before."""

from collections.abc import AsyncIterator
from typing import Protocol

from tandem_api.topology import Topology


class Source(Protocol):
    """A file, or Kubernetes."""

    def topologies(self) -> AsyncIterator[Topology]:
        """The topology as it is, then every change. Never ends, and survives what is wrong for a while."""
