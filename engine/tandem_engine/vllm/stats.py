"""What the engine tells of itself with each step: load, tokens, and how each call's KV transfer went.

The engine runs in a process of its own. Its scheduler sends statistics with the outputs of every step, and a
connector's are among them; they arrive before the outputs of the step after it. That is in time for the report that
goes before a call's first byte.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats
from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats

KEY = "tandem.call"
"""In a request's kv_transfer_params: the call's key, by which its statistics are found again."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One rank's fetch. `reason` is empty where it went well; `began` is in seconds, monotone, the system's."""

    bytes: int = 0
    blocks: int = 0
    micros: int = 0
    reason: str = ""
    began: float = 0.0


class TransferStats(KVConnectorStats):
    """A connector's statistics of one step.

    `fetched` by call, an entry a rank; `staged` bytes and `prompt`
    tokens by call.
    """

    def fetched(self, key: str, transfer: Transfer) -> None:
        entry = [transfer.bytes, transfer.blocks, transfer.micros, transfer.reason, transfer.began]
        self.data.setdefault("fetched", {}).setdefault(key, []).append(entry)

    data: dict[str, Any]

    def staged(self, key: str, size: int) -> None:
        counts = self.data.setdefault("staged", {})
        counts[key] = counts.get(key, 0) + size

    def nixl(self, data: Mapping[str, Any]) -> None:
        """What NIXL counts itself, over all calls."""
        sums = self.data.setdefault("nixl", {})
        for name, values in data.items():
            if total := sum(values):
                sums[name] = sums.get(name, 0) + total

    def prompt(self, key: str, *, computed: int = 0, external: int = 0) -> None:
        """Adds prompt tokens that the scheduler had computed, or took as loaded."""
        counts = self.data.setdefault("prompt", {}).setdefault(key, [0, 0])
        counts[0] += computed
        counts[1] += external

    def aggregate(self, other: KVConnectorStats) -> "TransferStats":
        for key, entries in other.data.get("fetched", {}).items():
            self.data.setdefault("fetched", {}).setdefault(key, []).extend(entries)
        for key, size in other.data.get("staged", {}).items():
            self.staged(key, size)
        self.nixl({name: [value] for name, value in other.data.get("nixl", {}).items()})
        for key, (computed, external) in other.data.get("prompt", {}).items():
            self.prompt(key, computed=computed, external=external)
        return self

    def is_empty(self) -> bool:
        return not self.data

    def reset(self) -> None:
        self.data = {}

    def reduce(self) -> dict[str, int | float]:
        entries = [entry for call in self.data.get("fetched", {}).values() for entry in call]
        return {"fetches": len(entries), "bytes": sum(entry[0] for entry in entries)}


@dataclass(slots=True)
class CallStats:
    """What has arrived of one call."""

    transfers: list[Transfer] = field(default_factory=list)
    computed: int = 0
    """Prompt tokens that the scheduler had computed, by its own count."""
    external: int = 0
    """Prompt tokens that were loaded."""
    staged: int = 0
    """Bytes that wait to be fetched, over all ranks."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """As the scheduler reported after its last step."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    """Share of the KV blocks that requests hold, 0 to 1."""


class Watch(StatLoggerBase):
    """Keeps the engine's last word. Calls are followed from `follow` to `forget`; what comes of others is only summed.

    Args:
        connector: a connector of ours counts computed prompt tokens. vLLM's own count leaves out the one that is
            computed again after a whole prompt was loaded.
    """

    def __init__(self, connector: bool) -> None:
        self._connector = connector
        self.load = EngineLoad()
        self.totals: Counter[str] = Counter()
        self._calls: dict[str, CallStats] = {}

    def follow(self, key: str) -> CallStats:
        return self._calls.setdefault(key, CallStats())

    def forget(self, key: str) -> None:
        self._calls.pop(key, None)

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        mm_cache_stats: MultiModalCacheStats | None = None,
        engine_idx: int = 0,
    ) -> None:
        if scheduler_stats is not None:
            self.totals["engine_steps"] += 1
            self.load = EngineLoad(
                scheduler_stats.num_running_reqs,
                scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs,
                scheduler_stats.kv_cache_usage,
            )
            if (guessed := scheduler_stats.spec_decoding_stats) is not None:
                self.totals["draft_tokens"] += guessed.num_draft_tokens
                self.totals["draft_tokens_accepted"] += guessed.num_accepted_tokens
            if scheduler_stats.kv_connector_stats:
                self._transferred(scheduler_stats.kv_connector_stats)
        if iteration_stats is not None:
            prompt = iteration_stats.prompt_token_stats
            self.totals["prompt_tokens"] += prompt.total
            self.totals["prompt_tokens_cached"] += prompt.local_cache_hit
            self.totals["prompt_tokens_transferred"] += prompt.external_kv_transfer
            self.totals["generation_tokens"] += iteration_stats.num_generation_tokens
            self.totals["preemptions"] += iteration_stats.num_preempted_reqs
            if not self._connector:
                self.totals["prompt_tokens_computed"] += prompt.computed

    def log_engine_initialized(self) -> None:
        """Part of vLLM's interface; nothing to say."""

    def _transferred(self, data: Mapping[str, Any]) -> None:
        for key, entries in data.get("fetched", {}).items():
            transfers = [Transfer(*entry) for entry in entries]
            if key in self._calls:
                self._calls[key].transfers += transfers
            for transfer in transfers:
                self.totals["kv_fetches"] += 1
                self.totals["kv_fetched_bytes"] += transfer.bytes
                if transfer.reason:
                    self.totals[f"kv_fetches_failed_{transfer.reason}"] += 1
        for name in ("bytes_transferred", "num_failed_transfers", "num_kv_expired_reqs"):
            if value := data.get("nixl", {}).get(name):
                self.totals[f"nixl_{name}"] += round(value)
        for key, size in data.get("staged", {}).items():
            self.totals["kv_staged_bytes"] += size
            if key in self._calls:
                self._calls[key].staged += size
        for key, (computed, external) in data.get("prompt", {}).items():
            self.totals["prompt_tokens_computed"] += computed
            if key in self._calls:
                self._calls[key].computed += computed
                self._calls[key].external += external


def watch_factory(watch: Watch) -> Any:
    """What AsyncLLM's `stat_loggers` takes: called once for each engine, of which there is one."""

    def make(vllm_config: VllmConfig, engine_index: int = 0) -> Watch:
        return watch

    return make
