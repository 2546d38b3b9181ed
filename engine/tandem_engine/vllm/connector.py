"""`TandemKVConnector`: vLLM's connector interface for KV over gRPC.

vLLM makes one for its scheduler and one for each rank. This class only deals the calls out: what to move is decided in
`planner`, moving it is done in `mover`.
"""

from typing import TYPE_CHECKING, Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
)
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank

from tandem_engine.vllm.layouts import rank_cache
from tandem_engine.vllm.mover import Mover
from tandem_engine.vllm.planner import Planner, Work
from tandem_engine.vllm.settings import TransferSettings
from tandem_engine.vllm.stats import TransferStats

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request


class TandemKVConnector(KVConnectorBase_V1):
    """See KVConnectorBase_V1 for what vLLM calls when."""

    mover_type = Mover

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._settings = TransferSettings.of(vllm_config)
        self.refused = ""
        """Why this rank's KV can't be transferred, for the front end to say."""
        self._planner: Planner
        self._mover: Mover
        if role == KVConnectorRole.SCHEDULER:
            self._planner = Planner(vllm_config.cache_config.block_size, lambda: self._kv_cache_manager)

    @property
    def requires_kv_delivery(self) -> bool:
        """KV is staged within the step that completes its prompt: nothing is pending after it."""
        return False

    # ---- in the scheduler

    def on_new_request(self, request: "Request") -> None:
        self._planner.add(request)

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        tokens = self._planner.to_load(request, num_computed_tokens)
        return tokens, tokens > 0

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        if num_external_tokens:
            self._planner.load(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        return self._planner.step(scheduler_output)

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        for request_id in connector_output.failed_recving or ():
            self._planner.load_failed(request_id)

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._planner.finish(request)
        return False, None  # blocks are free at once

    # ---- in a rank's worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        try:
            cache = rank_cache(kv_caches, self._kv_cache_config)
        except ValueError as error:
            self.refused = str(error)  # raised here, it would be lost in the end of the engine's process
            return
        parallel = self._vllm_config.parallel_config
        self._mover = self.mover_type(
            cache,
            self._settings,
            rank=get_tensor_model_parallel_rank(),
            tensor_parallel=parallel.tensor_parallel_size,
            kv_heads=self._vllm_config.model_config.get_total_num_kv_heads(),
            serves=self._kv_transfer_config.is_kv_producer,
        )
        self._mover.start()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        work = self._get_connector_metadata()
        assert isinstance(work, Work)
        self._mover.begin(work)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are asynchronous: a request is not scheduled before its KV is there."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """All layers are staged at the end of the step."""

    def wait_for_save(self) -> None:
        work = self._get_connector_metadata()
        assert isinstance(work, Work)
        self._mover.stage(work)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        done, failed = self._mover.finished()
        return KVConnectorTransferResults(finished_recving=done, failed_recving=failed)

    # ---- both

    def get_kv_connector_stats(self) -> TransferStats | None:
        side = self._planner if self._role == KVConnectorRole.SCHEDULER else self._mover
        return side.take_stats()

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> TransferStats:
        return TransferStats(data=data or {})

    def shutdown(self) -> None:
        if self._role == KVConnectorRole.WORKER and hasattr(self, "_mover"):
            self._mover.close()

    # ---- asked by the front end, through `worker.WorkerExtension`

    @property
    def mover(self) -> Mover:
        return self._mover
