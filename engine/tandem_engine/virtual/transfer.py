"""The virtual engine's two ends of a KV transfer: staging what a prefill computed, and fetching it for a decode.

The bytes go through `tandem_engine.kv` and a real network, as vLLM's do.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from tandem_api.inference_service import KvTransferSpec
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2

from tandem_engine.kv.client import Fetch, KvClient, Source
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.renewing import renewing
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_engine.virtual.faults import Faults
from tandem_engine.virtual.kv_bytes import KvShape, Rows

CONNECTOR: Final = "grpc"
FETCH_SECONDS: Final = 30.0
"""A fetch that takes longer is given up, and the prompt is computed."""


class Holder:
    """The prefill side: leases over staged KV, and the server that hands it out. A context manager.

    Args:
        spec: limits and time of leases.
        shape: of the KV.
        identity: whose KV it is.
        host: address to bind and to put into handles.
        port: of the server; 0 takes a free one.
        tls: mutual TLS, or None.
        clock: seconds, monotone.
        draw_lease: fresh lease bits.
        faults: that strike it.
    """

    def __init__(
        self,
        spec: KvTransferSpec,
        shape: KvShape,
        identity: worker_pb2.Identity,
        *,
        host: str,
        port: int,
        tls: Tls | None,
        clock: Callable[[], float],
        draw_lease: Callable[[], bytes],
        faults: Faults,
    ) -> None:
        self.staging = Staging(LeaseLimits(spec.max_staged_bytes, spec.max_fetches, spec.lease_ttl), clock)
        self.server = KvServer(self.staging, f"{host}:{port}", tls, tamper=self._tamper)
        self._shape = shape
        self._identity = identity
        self._host = host
        self._draw_lease = draw_lease
        self._faults = faults

    def __enter__(self) -> "Holder":
        self.server.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.server.__exit__(exc_type, exc, tb)

    def reserve(self, tokens: int) -> bytes:
        """Keeps room for a prompt's KV, and returns the lease it will have.

        Raises:
            Overloaded: there is none.
        """
        lease = self._draw_lease()
        self.staging.reserve(lease, self._shape.blocks(tokens) * self._shape.block_bytes)
        return lease

    def stage(self, lease: bytes, rows: Rows, content_hash: bytes) -> kv_pb2.KvHandle:
        """Stages a prompt's KV under its reserved lease."""
        layers = self._shape.to_layers(rows)
        if self._faults.corrupts_staged():
            layers[0].reshape(-1)[0] ^= 0xFF
        kv = StagedKv(
            content_hash=content_hash,
            tokens=len(rows),
            blocks=self._shape.blocks(len(rows)),
            heads=self._shape.heads,
            head_bytes=self._shape.block_size * self._shape.head_row,
            layers=[layer.data for layer in layers],
        )
        ttl = self.staging.stage(lease, kv)
        handle = self._handle(lease, kv, ttl)
        if self._faults.loses():
            self.staging.release(lease)
        return handle

    def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        """Draws fresh bits for a lease.

        Raises:
            KvGone: it is over.
        """
        drawn = self._draw_lease()
        ttl = self.staging.renew(lease, next_lease=drawn)
        return self._handle(drawn, self.staging.peek(drawn), ttl)

    def _handle(self, lease: bytes, kv: StagedKv, ttl: float) -> kv_pb2.KvHandle:
        return kv_pb2.KvHandle(
            addresses=[f"{self._host}:{self.server.port}"],
            lease=lease,
            ttl_ms=round(ttl * 1000),
            model=self._identity.model,
            version=self._identity.version,
            revision=self._identity.revision,
            layout=self._shape.layout(),
            content_hash=kv.content_hash,
            tokens=kv.tokens,
            blocks=kv.blocks,
            bytes=kv.bytes,
            holder=self._identity.name,
            connector=CONNECTOR,
        )

    def _tamper(self, message: bytes) -> bytes:
        if self._faults.corrupts_wire():
            return message[:-1] + bytes([message[-1] ^ 0xFF])
        return message


@dataclass(frozen=True, slots=True)
class Fetched:
    """KV that arrived: rows from block `first_block` on, padding included."""

    rows: Rows
    blocks: int
    bytes: int


class Fetcher:
    """The decode side. A context manager: leaving closes its channels and threads.

    Args:
        spec: how many fetches run at once.
        shape: of the KV.
        tls: mutual TLS, or None.
        faults: that strike it.
    """

    def __init__(self, spec: KvTransferSpec, shape: KvShape, tls: Tls | None, faults: Faults) -> None:
        self._client = KvClient(tls)
        self._pool = ThreadPoolExecutor(spec.max_fetches, thread_name_prefix="kv-fetch")
        self._shape = shape
        self._faults = faults
        self.running = 0
        self.received = 0

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._client.close()
        self._pool.shutdown()

    def keeping(self, handle: kv_pb2.KvHandle) -> AbstractAsyncContextManager[object]:
        """The handle's lease is renewed while this is entered."""
        return renewing(self._client, handle)

    async def fetch(self, handle: kv_pb2.KvHandle, first_block: int) -> Fetched:
        """Fetches a prompt's KV but for the blocks before `first_block`.

        Raises:
            FetchFailed: with the reason.
        """
        blocks = handle.blocks - first_block
        layers = [np.empty(blocks * self._shape.layer_block_bytes, dtype=np.uint8) for _ in range(self._shape.layers)]
        source = Source(
            handle.addresses[0],
            handle.lease,
            b"refused" if self._faults.refuses() else handle.content_hash,
            first_block=first_block,
        )
        self.running += 1
        try:
            fetch = self._client.fetch(source, [layer.data for layer in layers], FETCH_SECONDS)
            moved = await self._in_thread(fetch)
        finally:
            self.running -= 1
        self.received += moved
        return Fetched(self._shape.from_layers(layers, blocks), blocks, moved)

    async def _in_thread(self, fetch: Fetch) -> int:
        """Runs a fetch; when it is cancelled, its thread has ended before this does."""
        work = self._pool.submit(fetch.run)
        waiter = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            fetch.cancel()
            waiter.add_done_callback(_seen)
            if not work.cancel():  # a thread has it, and is about to leave it
                await asyncio.wait([waiter])
            raise


def _seen(done: "asyncio.Future[int]") -> None:
    """How a cancelled fetch ended is of no interest: asyncio would log it as never looked at."""
    if not done.cancelled():
        done.exception()
