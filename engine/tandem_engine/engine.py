"""The seam between a worker and what computes: an `Engine` answers calls, whatever it is made of.

A worker (`tandem_engine.worker`) owns the wire: sessions, deadlines, drain, health. An engine owns the model: it
parses the body, computes, and writes the answer in the API's own wire format. Each call is one coroutine that the
worker runs as a task; cancelling the task cancels the call, and when the coroutine has ended, by whatever way, the
call holds nothing of the engine any more: no slot, no block, no reservation. (A lease outlives its prefill call: that
is its purpose.)
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tandem_proto.tandem.v1 import kv_pb2, worker_pb2


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came over the wire."""

    response_id: str
    """The answer's "id"."""
    api: "worker_pb2.Api.ValueType"
    body: bytes
    """The client's JSON, untouched."""
    kv: kv_pb2.KvHandle | None = None
    """Where the prompt's KV is; None: compute the prompt here."""
    whole_reason: str = ""
    """Why there is no handle, where one could have been."""
    priority: int = 0
    tenant: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context headers: traceparent, tracestate."""


class Reply(Protocol):
    """Where a decode call's answer goes. Calls return at once and never raise; bytes are sent in order."""

    def started(self, status: int, content_type: str, content_bytes: int, kv: worker_pb2.KvReport) -> None:
        """The answer begins: the prompt's KV is here and the first token, too. Once, before any data.

        It is said then for a JSON body as for a stream: it lets the KV's lease go, which a long answer must not hold.
        `content_bytes` is 0 where it is not known yet.
        """

    def data(self, chunk: bytes) -> None:
        """Whole SSE events, or a piece of the one JSON body."""


def say_json(reply: Reply, body: bytes) -> None:
    """Answers with one JSON body for which nothing was computed."""
    report = worker_pb2.KvReport(outcome=worker_pb2.KvReport.WHOLE, reason="no_generation")
    reply.started(200, "application/json", len(body), report)
    reply.data(body)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended well."""

    usage: worker_pb2.Usage
    finish_reason: str = ""
    timings: worker_pb2.Timings = field(default_factory=worker_pb2.Timings)
    kv: kv_pb2.KvHandle | None = None
    """Of a prefill call."""
    whole_reason: str = ""
    """Of a prefill call that computed nothing, because a transfer can't carry what it asks for."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while an engine runs."""

    name: str
    """Kind and version: "vllm 0.32.0", "virtual"."""
    layout: kv_pb2.KvLayout
    max_model_len: int
    max_running: int
    total_blocks: int
    max_staged_bytes: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What an engine holds at this moment, as it counts itself. All are at rest when all calls and leases are over."""

    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    leases: int = 0
    staged_bytes: int = 0
    fetches: int = 0
    """Transfers under way, in either direction."""
    extra: Mapping[str, int] = field(default_factory=dict)


class Engine(AbstractAsyncContextManager["Engine"], Protocol):
    """A model that computes. Entering starts it (which may take minutes), leaving ends it and all it started."""

    @property
    def facts(self) -> Facts:
        """Known once entered."""

    async def counters(self) -> Counters:
        """A fresh count, asked of the engine itself."""

    def load(self) -> Counters:
        """The last known count, without asking: for load snapshots."""

    def totals(self) -> Mapping[str, int]:
        """Monotone counts since the start: tokens, transfers, bytes; names as in the metrics, without prefix."""

    async def check(self) -> None:
        """Proves that the engine can answer now.

        Raises:
            Unavailable: it can't; the text says why.
            EngineDead: it can't, and never will again: the process has to be restarted.
        """

    async def prefill(self, call: Call) -> Outcome:
        """Computes a prompt's KV and holds it under a lease.

        Raises:
            CallError: of the kind that fits.
        """

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        """Answers a call, with the KV of `call.kv` where that is given.

        Raises:
            CallError: of the kind that fits; before or after `reply.started`.
        """

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        """Draws new bits for a lease and voids the old.

        Raises:
            KvGone: the lease is not held any more.
        """

    def release(self, lease: bytes) -> None:
        """Ends a lease. One that is gone is no error."""
