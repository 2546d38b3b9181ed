"""Leases over KV that NIXL hands out.

NIXL reads KV out of the prefill worker's cache itself: blocks stay where they are until they were read or their lease
is over. A reader that comes too late would get whatever is in the blocks by then, and nothing would tell. So leases are
also kept where they can be asked for: rank 0 answers KvTransfer's Renew at the port behind those of the ranks, and a
decode worker renews before it reads.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults

from tandem_engine.errors import CallError, KvGone
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_engine.vllm.layouts import RankCache
from tandem_engine.vllm.settings import TransferSettings

logger = logging.getLogger("vllm.tandem")  # vLLM sets this tree up in its processes


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

    def remaining(self, leases: list[bytes]) -> list[float]:
        return [self._staging.remaining(lease) for lease in leases]

    def renew(self, lease: bytes, next_lease: bytes) -> bool:
        try:
            self._staging.renew(lease, next_lease=next_lease)
        except KvGone:
            return False
        if lease not in self._held:
            return False
        if next_lease:
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
