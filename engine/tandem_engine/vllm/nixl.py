"""`TandemNixlConnector`: vLLM's own NIXL connector, with Tandem's leases and accounts around it.

NIXL reads KV out of the prefill worker's cache itself: blocks stay where they are until they were read or their lease
is over. A reader that comes too late would get whatever is in the blocks by then, and nothing would tell. So leases are
also kept where they can be asked for: rank 0 answers KvTransfer's Renew at the port behind those of the ranks, and a
decode worker renews before it reads.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole, KVConnectorTransferResults
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank

from tandem_engine.errors import CallError, KvGone
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_engine.vllm.layouts import RankCache, rank_cache
from tandem_engine.vllm.params import LEASE
from tandem_engine.vllm.settings import TransferSettings
from tandem_engine.vllm.stats import KEY, Transfer, TransferStats
from tandem_engine.vllm.steps import scheduled

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = logging.getLogger("vllm.tandem")  # vLLM sets this tree up in its processes

GRACE_SECONDS = 30
"""How much longer than a lease NIXL itself keeps the blocks: a read that has begun in time may end."""


@dataclass(slots=True)
class _Known:
    key: str
    prompt_tokens: int
    lease: bytes | None
    loading: int = 0


@dataclass(slots=True)
class Notes:
    """What the scheduler's side tells the ranks beside NIXL's own metadata."""

    keys: dict[str, str] = field(default_factory=dict)
    """Of requests whose KV is read from now on."""
    holds: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Lease and blocks of requests whose prompt this step completes: they can be renewed before NIXL hears of them."""
    drops: dict[str, bytes] = field(default_factory=dict)
    """Leases of requests whose KV is not kept after all."""


class NixlLeases:
    """A rank's leases over blocks that NIXL keeps. It has the face of `mover.Mover` for the front end.

    Args:
        worker: NIXL's, of this rank.
        cache: the rank's.
        settings: of the worker process.
        address: where leases can be renewed, or None.
        clock: seconds, monotone.
    """

    def __init__(
        self,
        worker: Any,
        cache: RankCache,
        settings: TransferSettings,
        address: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cache = cache
        self._worker = worker
        self._block_bytes = cache.describe()["block_bytes"]
        # Bytes are counted by the front end and by NIXL's own blocks; what is staged here is the lease alone.
        self._staging = Staging(LeaseLimits(settings.max_staged_bytes, settings.max_fetches, settings.lease_ttl), clock)
        self._held: dict[bytes, tuple[str, int]] = {}
        self._let_go: set[str] = set()
        self._early: set[str] = set()
        """Requests whose lease was over before NIXL heard of them, one step after their end."""
        self._open = ExitStack()
        if address is not None:
            self._open.enter_context(KvServer(self._staging, address, settings.tls))

    def close(self) -> None:
        self._open.close()

    def hold(self, request_id: str, lease: bytes, blocks: int) -> None:
        self._held[lease] = (request_id, blocks)
        try:
            nothing = StagedKv(content_hash=b"", tokens=0, blocks=blocks, heads=0, head_bytes=0, layers=())
            self._staging.stage(lease, nothing)
        except (CallError, ValueError):
            logger.exception("a lease could not be kept")
            self._release(lease)

    def heard(self, request_ids: Iterable[str]) -> None:
        """NIXL keeps the blocks of these from now on."""
        for request_id in self._early.intersection(request_ids):
            self._early.discard(request_id)
            self._let_go_of(request_id)

    def finished(self, results: KVConnectorTransferResults) -> None:
        """Lets go of what was read or is over. The engine steps, if idly, as long as anything is held."""
        for lease, (request_id, _) in list(self._held.items()):
            if request_id in results.finished_sending:
                del self._held[lease]
                self._staging.release(lease)
                continue
            try:
                self._staging.peek(lease)
            except KvGone:
                self._release(lease)
        results.finished_sending |= self._let_go
        self._let_go = set()

    def counts(self) -> tuple[int, int, int]:
        blocks = sum(count for _, count in self._held.values())
        return len(self._held), blocks * self._block_bytes, len(self._worker._recving_metadata)

    def release(self, leases: list[bytes]) -> None:
        for lease in leases:
            if lease in self._held:
                self._release(lease)

    def forget(self, leases: Mapping[str, bytes]) -> None:
        """Of requests that NIXL never hears of."""
        for request_id, lease in leases.items():
            self._early.discard(request_id)
            if self._held.pop(lease, None):
                self._staging.release(lease)

    def renew(self, lease: bytes, next_lease: bytes) -> bool:
        try:
            self._staging.renew(lease, next_lease=next_lease)
        except KvGone:
            return False
        if lease not in self._held:
            return False
        self._held[next_lease] = self._held.pop(lease)
        return True

    def _release(self, lease: bytes) -> None:
        request_id, _ = self._held.pop(lease)
        self._staging.release(lease)
        if request_id in self._worker._reqs_to_send:
            self._let_go_of(request_id)
        else:
            self._early.add(request_id)

    def _let_go_of(self, request_id: str) -> None:
        del self._worker._reqs_to_send[request_id]
        self._worker._reqs_to_process.discard(request_id)
        self._worker.consumer_notification_counts_by_req.pop(request_id, None)
        self._let_go.add(request_id)


class TandemNixlConnector(NixlPullConnector):
    """See `NixlPullConnector`; what is overridden here only watches, and answers the front end."""

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        self._settings = TransferSettings.of(vllm_config)
        vllm_config.kv_transfer_config.kv_connector_extra_config.setdefault(
            "kv_lease_duration", math.ceil(self._settings.lease_ttl) + GRACE_SECONDS
        )
        super().__init__(vllm_config, role, kv_cache_config)
        if self.connector_scheduler is not None:
            # vLLM takes them from the environment, where two engines of one process would share them.
            self.connector_scheduler.side_channel_host = self._settings.host
            self.connector_scheduler.side_channel_port = self._settings.port
        self.refused = ""
        """Why this rank's KV can't be transferred, for the front end to say."""
        self._known: dict[str, _Known] = {}
        self._notes = Notes()
        self._stats = TransferStats()
        self._leases: NixlLeases
        self._reading: dict[str, tuple[str, float, int]] = {}

    # ---- in the scheduler

    def on_new_request(self, request: "Request") -> None:
        params = request.kv_transfer_params
        if params and KEY in params:
            lease = params.pop(LEASE, None)
            self._known[request.request_id] = _Known(params[KEY], request.num_prompt_tokens, lease)
        super().on_new_request(request)

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        known = self._known.get(request.request_id)
        if known and num_external_tokens:
            known.loading = num_external_tokens
            self._stats.prompt(known.key, external=num_external_tokens)
        super().update_state_after_alloc(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> Any:
        for part in scheduled(scheduler_output):
            known = self._known.get(part.request_id)
            if known is None:
                continue
            if tokens := part.of_prompt(known.prompt_tokens):
                self._stats.prompt(known.key, computed=tokens)
            if known.lease and part.completes(known.prompt_tokens):
                blocks = -(-known.prompt_tokens // self._vllm_config.cache_config.block_size)
                self._notes.holds[part.request_id] = (known.lease, blocks)
        meta = super().build_connector_meta(scheduler_output)
        for request_id in meta.reqs_to_recv:
            if known := self._known.get(request_id):
                self._notes.keys[request_id] = known.key
        meta.tandem, self._notes = self._notes, Notes()
        return meta

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        for request_id in connector_output.failed_recving or ():
            if known := self._known.get(request_id):
                self._stats.prompt(known.key, external=-known.loading)
        super().update_connector_output(connector_output)

    def request_finished_all_groups(
        self, request: "Request", block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        known = self._known.pop(request.request_id, None)
        held, params = super().request_finished_all_groups(request, block_ids)
        if known and known.lease and not held:
            self._notes.drops[request.request_id] = known.lease
        return held, params

    # ---- in a rank's worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        super().register_kv_caches(kv_caches)
        try:
            cache = rank_cache(kv_caches, self._kv_cache_config)
        except ValueError as error:
            self.refused = str(error)
            return
        ranks = self._vllm_config.parallel_config.tensor_parallel_size
        serves = self._kv_transfer_config.is_kv_producer and get_tensor_model_parallel_rank() == 0
        self._leases = NixlLeases(
            self.connector_worker,
            cache,
            self._settings,
            f"{self._settings.host}:{self._settings.port + ranks}" if serves else None,
        )

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        meta: Any = self._connector_metadata
        for request_id, key in meta.tandem.keys.items():
            wanted = meta.reqs_to_recv[request_id]
            if wanted.awaiting_kvs:
                self._reading[request_id] = (key, time.monotonic(), sum(map(len, wanted.local_block_ids)))
        super().start_load_kv(forward_context, **kwargs)
        for request_id, (lease, blocks) in meta.tandem.holds.items():
            self._leases.hold(request_id, lease, blocks)
        self._leases.forget(meta.tandem.drops)
        self._leases.heard(meta.reqs_to_send)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        results = super().get_transfer_results(finished_req_ids)
        for request_id in results.finished_recving & self._reading.keys():
            key, began, blocks = self._reading.pop(request_id)
            micros = round((time.monotonic() - began) * 1e6)
            failed = request_id in results.failed_recving
            size = 0 if failed else blocks * self._leases.cache.describe()["block_bytes"]
            self._stats.fetched(key, Transfer(size, blocks, micros, "failed" if failed else "", began))
        self._leases.finished(results)
        return results

    def shutdown(self) -> None:
        if hasattr(self, "_leases"):
            self._leases.close()
        super().shutdown()

    # ---- both

    def get_kv_connector_stats(self) -> TransferStats | None:
        taken, self._stats = self._stats, TransferStats()
        theirs = super().get_kv_connector_stats()
        if theirs is not None:
            taken.nixl(theirs.data)
        return None if taken.is_empty() else taken

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> TransferStats:
        return TransferStats(data=data or {})

    @classmethod
    def build_prom_metrics(cls, *args: Any, **kwargs: Any) -> None:
        """Tandem's own metrics have what vLLM's would say."""

    @property
    def mover(self) -> NixlLeases:
        """What answers the front end; see `worker.WorkerExtension`."""
        return self._leases
