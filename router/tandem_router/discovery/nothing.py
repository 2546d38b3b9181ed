"""No workers at all: a router that serves virtual models alone."""

import asyncio
from collections.abc import Callable

from tandem_api.topology import Topology


class NothingSource:
    """Tells an empty topology, once."""

    async def follow(self, tell: Callable[[Topology], None]) -> None:
        tell(Topology())
        await asyncio.Event().wait()
