"""What one worker is and does at this moment, as its sessions, its health and its status see it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from tandem_api.worker import WorkerConfig
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.engine import Call, Counters, Engine, Facts, Outcome, Reply
from tandem_engine.errors import CallError, KvGone, Overloaded, Unavailable
from tandem_engine.worker.metrics import WorkerMetrics
from tandem_engine.worker.outbox import Tally


class Role(Protocol):
    """What a prefill and a decode worker do differently."""

    @property
    def kind(self) -> "pb.Role.ValueType": ...

    @property
    def service(self) -> str:
        """The gRPC service's full name. The services of both roles have the same methods."""

    async def answer(self, engine: Engine, call: Call, reply: Reply) -> Outcome: ...

    async def hand_on(self, engine: Engine, lease: bytes) -> kv_pb2.KvHandle: ...

    def release(self, engine: Engine, lease: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at one moment: for readers in other threads."""

    load: pb.Load = field(default_factory=pb.Load)
    fetches: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)


class Listener(Protocol):
    """A session, as the state knows it."""

    router: str

    @property
    def outbox_bytes(self) -> int: ...

    def greet(self) -> None:
        """Says who this worker is; again when its engine has started, for its layout and limits are known then."""

    def load(self, load: pb.Load, *, urgent: bool) -> None: ...

    def stop_calls(self, error: CallError) -> None:
        """Ends all calls with an error that the router is told."""

    async def close(self) -> None:
        """Sends what is left to say and ends the session well."""


class WorkerState:
    """The worker's live state. `changed` is set whenever `ready`, `draining` or `facts` change."""

    def __init__(
        self,
        config: WorkerConfig,
        role: Role,
        name: str,
        metrics: WorkerMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.role = role
        self.metrics = metrics
        self.clock = clock
        """Seconds, monotone."""
        self.identity = pb.Identity(
            name=name,
            role=role.kind,
            service=config.service,
            model=config.model,
            version=config.version,
            revision=config.revision,
        )
        self.tally = Tally()
        self.sessions: dict[Listener, None] = {}
        self.open_calls = 0
        self.facts: Facts | None = None
        self.draining = False
        self.alive = True
        self.changed = asyncio.Event()
        self.snapshot = Snapshot()
        self._engine: Engine | None = None
        self._can_answer = False

    @property
    def engine(self) -> Engine:
        """Once it has started: no call gets a place before."""
        assert self._engine is not None
        return self._engine

    @property
    def ready(self) -> bool:
        """The engine can answer, and calls are taken."""
        return self._can_answer and not self.draining

    def engine_started(self, engine: Engine) -> None:
        self._engine = engine
        self.facts = engine.facts
        self.changed.set()

    def engine_checked(self, *, ready: bool, alive: bool) -> None:
        if (ready, alive) != (self._can_answer, self.alive):
            self._can_answer, self.alive = ready, alive
            self.changed.set()

    def drain(self) -> None:
        """Takes no more calls; those that run go on."""
        if not self.draining:
            self.draining = True
            self.changed.set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds one of the worker's places for a call.

        Raises:
            Unavailable: the worker drains, or its engine can't answer.
            Overloaded: as many calls run and wait as may.
        """
        if self.draining:
            raise Unavailable("This worker is shutting down and takes no more requests.")
        if not self._can_answer or self.facts is None:
            raise Unavailable("This worker's engine is not ready.")
        if self.open_calls >= self.facts.max_running + self.config.max_waiting:
            raise Overloaded("Too many requests wait for this worker.")
        self.open_calls += 1
        try:
            yield
        finally:
            self.open_calls -= 1

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        """Draws new bits for a lease.

        Raises:
            CallError: of the kind that fits.
        """
        if self._engine is None:
            raise KvGone("This worker holds no lease: its engine has not started.")
        return await self.role.hand_on(self._engine, lease)

    def release(self, lease: bytes) -> None:
        """Ends a lease; one that is gone is no error."""
        if self._engine is not None:
            self.role.release(self._engine, lease)

    def look(self) -> Snapshot:
        """Takes a snapshot."""
        counters = self.last_count()
        self.snapshot = Snapshot(self.load(counters), counters.fetches, dict(self.totals()))
        return self.snapshot

    def limits(self) -> pb.Limits:
        limits = pb.Limits(
            max_waiting=self.config.max_waiting,
            max_body_bytes=self.config.max_body_bytes,
            max_tokens=self.config.max_tokens,
        )
        if self.facts is not None:
            limits.max_running = self.facts.max_running
            limits.max_model_len = self.facts.max_model_len
            limits.max_staged_bytes = self.facts.max_staged_bytes
        return limits

    def last_count(self) -> Counters:
        """The engine's last known count; of nothing, while it starts."""
        return Counters() if self._engine is None else self._engine.load()

    def totals(self) -> Mapping[str, int]:
        return {} if self._engine is None else self._engine.totals()

    def load(self, counters: Counters) -> pb.Load:
        return pb.Load(
            ready=self.ready,
            draining=self.draining,
            open_calls=self.open_calls,
            running=counters.running,
            waiting=counters.waiting,
            total_blocks=0 if self.facts is None else self.facts.total_blocks,
            free_blocks=counters.free_blocks,
            leases=counters.leases,
            staged_bytes=counters.staged_bytes,
            routers=len(self.sessions),
        )
