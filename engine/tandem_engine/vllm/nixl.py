"""`TandemNixlConnector`: vLLM's own NIXL connector, with Tandem's leases and accounts around it.

`nixl_leases` says why there are leases beside NIXL's own.
"""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole, KVConnectorTransferResults
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import NixlPullConnector
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank

from tandem_engine.vllm.layouts import rank_cache
from tandem_engine.vllm.nixl_leases import NixlLeases
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
