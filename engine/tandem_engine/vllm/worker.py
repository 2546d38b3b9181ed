"""What the front end can ask of every rank: methods that vLLM adds to its workers, for `collective_rpc`."""

from typing import Any

from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group


class WorkerExtension:
    """See `--worker-extension-cls`. Answers between two steps."""

    def tandem_layout(self) -> dict[str, Any]:
        """See `RankCache.describe`; or {"refused": why} where KV can't be transferred."""
        connector = get_kv_transfer_group()
        if connector.refused:
            return {"refused": connector.refused}
        layout: dict[str, Any] = connector.mover.cache.describe()
        return layout

    def tandem_counts(self) -> list[int]:
        """Leases, staged bytes, fetches; none without a connector."""
        return list(get_kv_transfer_group().mover.counts()) if has_kv_transfer_group() else [0, 0, 0]

    def tandem_release(self, leases: list[bytes]) -> None:
        get_kv_transfer_group().mover.release(leases)

    def tandem_remaining(self, leases: list[bytes]) -> list[float]:
        remaining: list[float] = get_kv_transfer_group().mover.remaining(leases)
        return remaining

    def tandem_renew(self, lease: bytes, next_lease: bytes) -> bool:
        renewed: bool = get_kv_transfer_group().mover.renew(lease, next_lease)
        return renewed
