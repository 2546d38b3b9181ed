"""A rank's side of the gRPC connector: stages blocks and serves them, fetches blocks and puts them in place."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import torch
from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.errors import CallError, KvGone
from tandem_engine.kv.assembly import FetchFailed
from tandem_engine.kv.client import Fetch, KvClient, Source
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.slices import slices
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_engine.vllm.blocks import BlockCopier
from tandem_engine.vllm.layouts import RankCache
from tandem_engine.vllm.planner import Hold, Load, Work
from tandem_engine.vllm.settings import TransferSettings
from tandem_engine.vllm.stats import Transfer, TransferStats

logger = logging.getLogger("vllm.tandem")  # vLLM sets this tree up in its processes


class Mover:
    """One for each rank.

    Args:
        cache: the rank's.
        settings: of the worker.
        rank: among the tensor-parallel ones.
        tensor_parallel: their number.
        kv_heads: of the whole model.
        serves: stages and serves; otherwise it fetches.
        clock: seconds, monotone.
    """

    def __init__(
        self,
        cache: RankCache,
        settings: TransferSettings,
        *,
        rank: int,
        tensor_parallel: int,
        kv_heads: int,
        serves: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._copier = BlockCopier(cache)
        self._settings = settings
        self._rank = rank
        self._tensor_parallel = tensor_parallel
        self._kv_heads = kv_heads
        self._serves = serves
        self._clock = clock
        self._staging = Staging(LeaseLimits(settings.max_staged_bytes, settings.max_fetches, settings.lease_ttl), clock)
        self._client = KvClient(settings.tls)
        self._pool = ThreadPoolExecutor(settings.max_fetches, thread_name_prefix="kv-fetch")
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._fetching: dict[str, _Fetching] = {}
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._stats = TransferStats()

    @property
    def cache(self) -> RankCache:
        return self._cache

    def start(self) -> None:
        """Binds the rank's port where it serves.

        Raises:
            RuntimeError: the port can't be bound.
        """
        if self._serves:
            address = f"{self._settings.host}:{self._settings.port + self._rank}"
            self._open.enter_context(self.make_server(self._staging, address))
            logger.info("rank %d serves KV at %s", self._rank, address)

    def make_server(self, staging: Staging, address: str) -> KvServer:
        return KvServer(staging, address, self._settings.tls)

    def close(self) -> None:
        """Ends what is under way and frees the port."""
        with self._lock:
            fetching = list(self._fetching.values())
        for fetch in fetching:
            fetch.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()
        self._open.close()

    # ---- each step

    def begin(self, work: Work) -> None:
        """Ends what is over, and begins fetches."""
        for lease in work.drops:
            self._staging.release(lease)
        for request_id in work.stops:
            with self._lock:
                fetching = self._fetching.get(request_id)
            if fetching is not None:
                fetching.stop()
        so_far = self._copier.so_far() if work.loads else None
        for load in work.loads:
            fetching = _Fetching()
            with self._lock:
                self._fetching[load.request_id] = fetching
            self._pool.submit(self._load, load, fetching, so_far)

    def stage(self, work: Work) -> None:
        """Copies the blocks of prompts that this step completed; they are in host memory when it returns."""
        for hold in work.holds:
            try:
                size = self._stage(hold)
            except (CallError, ValueError, RuntimeError) as error:
                # Not a reason to end the engine: the front end sees that nothing was staged.
                logger.warning("KV was not staged: %s", error)
                continue
            with self._lock:
                self._stats.staged(hold.key, size)

    def finished(self) -> tuple[set[str], set[str]]:
        """Requests whose fetch has ended since the last call, and those of them that failed."""
        with self._lock:
            done, self._done = self._done, set()
            failed, self._failed = self._failed, set()
        return done, failed

    def take_stats(self) -> TransferStats | None:
        with self._lock:
            if self._stats.is_empty():
                return None
            taken, self._stats = self._stats, TransferStats()
        return taken

    # ---- asked by the front end

    def counts(self) -> tuple[int, int, int]:
        """Leases, staged bytes, and fetches under way in either direction."""
        held = self._staging.counts()
        with self._lock:
            return held.leases, held.bytes, held.fetches + len(self._fetching)

    def release(self, leases: list[bytes]) -> None:
        for lease in leases:
            self._staging.release(lease)

    def remaining(self, leases: list[bytes]) -> list[float]:
        """Seconds that each lease lasts yet."""
        return [self._staging.remaining(lease) for lease in leases]

    def renew(self, lease: bytes, next_lease: bytes) -> bool:
        """Begins a lease's time anew, and hands it on where there are other bits; False: it is gone."""
        try:
            self._staging.renew(lease, next_lease=next_lease)
        except KvGone:
            return False
        return True

    # ----

    def _stage(self, hold: Hold) -> int:
        layers = [memoryview(layer.numpy()).cast("B") for layer in self.take_blocks(hold)]
        kv = StagedKv(
            content_hash=hold.content_hash,
            tokens=hold.tokens,
            blocks=len(hold.block_ids),
            heads=self._cache.heads,
            head_bytes=self._cache.head_bytes,
            layers=layers,
        )
        self._staging.stage(hold.lease, kv)
        return kv.bytes

    def take_blocks(self, hold: Hold) -> list[torch.Tensor]:
        return self._copier.take(hold.block_ids)

    def _load(self, load: Load, fetching: "_Fetching", after: torch.cuda.Event | None) -> None:
        handle = kv_pb2.KvHandle.FromString(load.handle)
        began = self._clock()
        moved, reason = 0, ""
        try:
            moved = self._fetch(handle, load, fetching, after)
        except FetchFailed as error:
            reason = error.reason
            if reason != "cancelled":
                logger.warning("KV of %s was not fetched from %s: %s", load.key, handle.holder, error)
        except Exception:
            reason = "failed"
            logger.exception("KV of %s was not fetched from %s", load.key, handle.holder)
        micros = round((self._clock() - began) * 1e6)
        with self._lock:
            del self._fetching[load.request_id]
            self._done.add(load.request_id)
            if reason:
                self._failed.add(load.request_id)
            self._stats.fetched(load.key, Transfer(moved, len(load.block_ids), micros, reason, began))

    def _fetch(self, handle: kv_pb2.KvHandle, load: Load, fetching: "_Fetching", after: torch.cuda.Event | None) -> int:
        moved = 0
        blocks = len(load.block_ids)
        for part in slices(handle.layout.tensor_parallel, self._tensor_parallel, self._rank, self._kv_heads):
            hosts = self._copier.buffers(blocks, part.head_count)
            source = Source(
                handle.addresses[part.address_index],
                handle.lease,
                handle.content_hash,
                load.first_block,
                part.head_start,
                part.head_count,
            )
            into = [memoryview(host.numpy()).cast("B") for host in hosts]
            moved += fetching.run(self._client.fetch(source, into, self._settings.lease_ttl))
            heads = range(part.dest_head_start, part.dest_head_start + part.head_count)
            self._copier.put(load.block_ids, heads, hosts, after)
        return moved


class _Fetching:
    """What a request fetches at the moment, so that it can be stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._fetch: Fetch | None = None

    def run(self, fetch: Fetch) -> int:
        with self._lock:
            if self._stopped:
                raise FetchFailed("cancelled", "the request is over")
            self._fetch = fetch
        return fetch.run()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._fetch is not None:
                self._fetch.cancel()
