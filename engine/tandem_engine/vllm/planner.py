"""The scheduler's side of the gRPC connector: which blocks of which request are to be staged or loaded, and when.

It holds what a request asked for from its arrival to its end. A lease's bits leave the request's own parameters at
once: vLLM writes those into its log when it breaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tandem_proto.tandem.v1 import kv_pb2
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata
from vllm.v1.request import RequestStatus

from tandem_engine.vllm.params import FETCH, HOLD
from tandem_engine.vllm.stats import KEY, TransferStats
from tandem_engine.vllm.steps import scheduled


@dataclass(frozen=True, slots=True)
class Hold:
    """Stage these blocks in this step."""

    key: str
    lease: bytes
    content_hash: bytes
    tokens: int
    block_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch a prompt's blocks from `first_block` on into these."""

    request_id: str
    key: str
    handle: bytes
    first_block: int
    block_ids: Sequence[int]


@dataclass(slots=True)
class Work(KVConnectorMetadata):
    """What the ranks do with one step. It crosses to them pickled."""

    holds: list[Hold] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    """Requests that are over: a load of theirs is to end."""
    drops: list[bytes] = field(default_factory=list)
    """Leases of requests that were aborted."""


@dataclass(slots=True)
class _Known:
    key: str
    prompt_tokens: int
    hold: dict[str, bytes] | None
    handle: kv_pb2.KvHandle | None
    loading: int = 0
    """Tokens under way."""


class Planner:
    """One for each engine. Called by the scheduler's thread alone."""

    def __init__(self, block_size: int, manager: Callable[[], Any]) -> None:
        self._block_size = block_size
        self._manager = manager
        self._known: dict[str, _Known] = {}
        self._work = Work()
        self._stats = TransferStats()

    def add(self, request: Any) -> None:
        """A request has arrived."""
        params = request.kv_transfer_params
        if not params or KEY not in params:
            return
        hold, fetch = params.pop(HOLD, None), params.pop(FETCH, None)
        handle = kv_pb2.KvHandle.FromString(fetch) if fetch else None
        self._known[request.request_id] = _Known(params[KEY], request.num_prompt_tokens, hold, handle)

    def to_load(self, request: Any, computed: int) -> int:
        """Prompt tokens that can be loaded beyond those that the engine's prefix cache has.

        It is the whole prompt: the engine then computes its last token again, to draw the first of the answer.
        """
        known = self._known.get(request.request_id)
        if known is None or known.handle is None:
            return 0
        return max(0, known.prompt_tokens - computed)

    def load(self, request: Any, block_ids: Sequence[int], tokens: int) -> None:
        """Blocks were allocated for `tokens` tokens at the prompt's end."""
        known = self._known[request.request_id]
        if known.handle is None:
            return
        first = (known.prompt_tokens - tokens) // self._block_size
        self._work.loads.append(
            Load(
                request.request_id,
                known.key,
                known.handle.SerializeToString(),
                first,
                block_ids[first : self._blocks(known)],
            )
        )
        known.handle = None  # tried once: what fails is computed, and so is what a preemption throws away
        known.loading = tokens
        self._stats.prompt(known.key, external=tokens)

    def load_failed(self, request_id: str) -> None:
        """The engine computes what was to be loaded."""
        if known := self._known.get(request_id):
            self._stats.prompt(known.key, external=-known.loading)

    def step(self, output: Any) -> Work:
        """A step is scheduled: what the ranks do beside computing it."""
        for part in scheduled(output):
            known = self._known.get(part.request_id)
            if known is None:
                continue
            if tokens := part.of_prompt(known.prompt_tokens):
                self._stats.prompt(known.key, computed=tokens)
            if known.hold and part.completes(known.prompt_tokens):
                block_ids = self._manager().get_block_ids(part.request_id)[0][: self._blocks(known)]
                hold = known.hold
                self._work.holds.append(
                    Hold(known.key, hold["lease"], hold["content_hash"], known.prompt_tokens, block_ids)
                )
        work, self._work = self._work, Work()
        return work

    def finish(self, request: Any) -> None:
        """A request is over, well or not."""
        known = self._known.pop(request.request_id, None)
        if known is None:
            return
        if known.loading:
            self._work.stops.append(request.request_id)
        if known.hold and request.status == RequestStatus.FINISHED_ABORTED:
            self._work.drops.append(known.hold["lease"])

    def take_stats(self) -> TransferStats | None:
        if self._stats.is_empty():
            return None
        taken, self._stats = self._stats, TransferStats()
        return taken

    def _blocks(self, known: _Known) -> int:
        return -(-known.prompt_tokens // self._block_size)
