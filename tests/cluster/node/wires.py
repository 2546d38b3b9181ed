"""Each pod's place in the network: an address of its own, in a network namespace of its own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.network import Network, empty_network, join_bridge


class Wires:
    """Connects pods to the cluster's bridge. Addresses are not used twice: 10.77.1.0 and up."""

    def __init__(self, cluster: Network) -> None:
        self._cluster = cluster
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def pod(self) -> AsyncIterator[tuple[Network, str]]:
        """A pod's network and address, for as long as the block lasts."""
        number = next(self._numbers)
        address = f"10.77.{1 + number // 250}.{number % 250 + 1}"
        network = await asyncio.to_thread(self._connect, address, f"pod{number}")
        try:
            yield network, address
        finally:
            network.close()

    def _connect(self, address: str, link: str) -> Network:
        network = empty_network()
        try:
            join_bridge(network, self._cluster, address, link)
        except BaseException:
            network.close()
            raise
        return network
