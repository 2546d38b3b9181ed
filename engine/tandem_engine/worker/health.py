"""`grpc.health.v1` on a plain port of its own, for probes.

Liveness asks "should this process be restarted", readiness "can it answer now". Draining ends readiness and never
liveness; an engine that starts, however long, is alive and not ready.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from tandem_proto.channels import listen
from tandem_proto.protocol import LIVENESS, READINESS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """What the probes are told. `port` is the one that was bound."""

    def __init__(self) -> None:
        self.servicer = HealthServicer()
        self.port = 0
        self._shown: tuple[bool, bool] | None = None

    async def show(self, *, ready: bool, alive: bool) -> None:
        if self._shown == (ready, alive):
            return
        self._shown = (ready, alive)
        await self.servicer.set(LIVENESS, SERVING if alive else NOT_SERVING)
        # The unnamed service is the server as a whole: whether to send it work.
        for service in (READINESS, ""):
            await self.servicer.set(service, SERVING if ready else NOT_SERVING)


@asynccontextmanager
async def health_server(address: str) -> AsyncIterator[Health]:
    """Serves while entered.

    Raises:
        RuntimeError: the address can't be bound.
    """
    health = Health()
    await health.show(ready=False, alive=True)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    health.port = listen(server, address, None)
    await server.start()
    try:
        yield health
    finally:
        await server.stop(None)
