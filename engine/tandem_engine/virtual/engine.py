"""The virtual engine: serves as vLLM does, in simulated time and without a model.

It batches continuously in steps, pages its KV cache, moves real KV bytes between prefill and decode, and answers in
OpenAI's formats. What it says follows from the bytes in its cache: see `kv_bytes`.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tandem_api.inference_service import KvTransferSpec, VirtualEngineSpec
from tandem_api.surfaces.messages import count_body
from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2
from tandem_virtual.tokens import Tokenizer

from tandem_engine.engine import Call, Counters, Facts, Outcome, Reply, say_json
from tandem_engine.errors import Unavailable
from tandem_engine.kv.content import content_hash
from tandem_engine.virtual.answering import Answer, Voice
from tandem_engine.virtual.batching import Batch
from tandem_engine.virtual.blocks import BlockCache
from tandem_engine.virtual.clock import Clock, RealClock
from tandem_engine.virtual.faults import Faults
from tandem_engine.virtual.jobs import Job, JobReader, encoder
from tandem_engine.virtual.kv_bytes import KvShape, block_keys
from tandem_engine.virtual.planning import AGEING_SECONDS, Consumer, Sequence, StepLimits
from tandem_engine.virtual.prefilling import Prefill
from tandem_engine.virtual.prompt_kv import PromptKv
from tandem_engine.virtual.stepping import Stepper
from tandem_engine.virtual.takeover import Takeover
from tandem_engine.virtual.transfer import Fetcher, Holder


def _draw_lease() -> bytes:
    return secrets.token_bytes(16)


class VirtualEngine:
    """An `Engine`. A worker of one tensor-parallel rank, whatever the manifest says: there is nothing to split.

    Args:
        spec: how it behaves.
        kv: leases and limits of KV transfer.
        identity: of the worker: what its handles say, and what it accepts.
        host: address at which it serves KV, as it stands in handles.
        kv_port: port for that; 0 takes a free one.
        disaggregated: False: it moves no KV.
        max_tokens: the platform's cap of a request's max_tokens.
        max_waiting: requests that may wait when all slots are taken.
        tls: mutual TLS for KV transfer, or None.
        clock: its time.
        draw_lease: fresh lease bits, 128 of them.
    """

    def __init__(
        self,
        spec: VirtualEngineSpec,
        kv: KvTransferSpec,
        identity: worker_pb2.Identity,
        *,
        host: str = "127.0.0.1",
        kv_port: int = 0,
        disaggregated: bool = True,
        max_tokens: int = 8192,
        max_waiting: int = 256,
        tls: Tls | None = None,
        clock: Clock | None = None,
        draw_lease: Callable[[], bytes] = _draw_lease,
    ) -> None:
        self._identity = identity
        self._clock = clock or RealClock()
        self._shape = KvShape(spec.bytes_per_token, spec.block_size)
        self._cache = BlockCache(spec.blocks)
        self._prompt_kv = PromptKv(self._shape, self._cache)
        limits = StepLimits(
            spec.slots, spec.token_budget, spec.block_size, spec.prefill_token_time, spec.decode_step_time
        )
        self._batch = Batch(self._cache, limits, max_waiting)
        self._stepper = Stepper(self._batch, self._clock)
        tokenizer = Tokenizer()
        max_model_len = min(spec.max_model_len, spec.blocks * spec.block_size)
        self._reader = JobReader(identity.model, max_model_len, max_tokens, tokenizer)
        self._voice = Voice(tokenizer, spec.seed, spec.answer_tokens)
        faults = Faults(spec.faults, spec.seed)
        self._holder = None
        if disaggregated and identity.role == worker_pb2.ROLE_PREFILL:
            self._holder = Holder(
                kv,
                self._shape,
                identity,
                host=host,
                port=kv_port,
                tls=tls,
                clock=self._clock.time,
                draw_lease=draw_lease,
                faults=faults,
            )
        self._takeover = None
        if disaggregated and self._holder is None:
            fetcher = Fetcher(kv, self._shape, tls, faults)
            self._takeover = Takeover(identity, self._shape, fetcher, self._prompt_kv, self._stepper, self._clock)
        self._facts = Facts(
            name="virtual",
            layout=self._shape.layout(),
            max_model_len=max_model_len,
            max_running=spec.slots,
            total_blocks=spec.blocks,
            max_staged_bytes=kv.max_staged_bytes if self._holder else 0,
        )
        self._open = AsyncExitStack()

    @classmethod
    def from_config(cls, config: WorkerConfig, *, name: str, host: str, tls: Tls | None) -> Self:
        """The engine that a worker's configuration describes."""
        identity = worker_pb2.Identity(
            name=name,
            role=worker_pb2.ROLE_PREFILL if config.role == "prefill" else worker_pb2.ROLE_DECODE,
            service=config.service,
            model=config.model,
            version=config.version,
            revision=config.revision,
        )
        return cls(
            config.engine.virtual,
            config.kv_transfer,
            identity,
            host=host,
            kv_port=config.ports.kv,
            disaggregated=config.disaggregated,
            max_tokens=config.max_tokens,
            max_waiting=config.max_waiting,
            tls=tls,
        )

    async def __aenter__(self) -> Self:
        """Serves KV and begins to step.

        Raises:
            RuntimeError: the KV port can't be bound.
        """
        async with AsyncExitStack() as opening:
            if self._holder is not None:
                opening.enter_context(self._holder)
            if self._takeover is not None:
                opening.enter_context(self._takeover.fetcher)
            self._stepper.start(await opening.enter_async_context(asyncio.TaskGroup()))
            opening.callback(self._stepper.stop)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._open.__aexit__(exc_type, exc, tb)

    @property
    def facts(self) -> Facts:
        return self._facts

    async def counters(self) -> Counters:
        return self.load()

    def load(self) -> Counters:
        held = self._holder.staging.counts() if self._holder else None
        return Counters(
            running=self._batch.running,
            waiting=self._batch.waiting,
            free_blocks=self._cache.free,
            leases=held.leases if held else 0,
            staged_bytes=held.bytes if held else 0,
            fetches=(held.fetches if held else 0) + (self._takeover.fetcher.running if self._takeover else 0),
        )

    def totals(self) -> Mapping[str, int]:
        batch = self._batch.totals
        return {
            "steps": batch.steps,
            "prompt_tokens_computed": batch.prompt_tokens,
            "prompt_tokens_reused": batch.reused_tokens,
            "generated_tokens": batch.generated_tokens,
            "preemptions": batch.preemptions,
            "kv_bytes_sent": self._holder.server.bytes_sent if self._holder else 0,
            "leases_expired": self._holder.staging.expired if self._holder else 0,
            **(self._takeover.totals() if self._takeover else {}),
        }

    async def check(self) -> None:
        self._stepper.check()

    async def prefill(self, call: Call) -> Outcome:
        """See `Engine.prefill`. Nothing of the answer is generated: the decode side generates the first token."""
        began = self._clock.time()
        job = self._reader.read(call)
        if self._holder is None:
            raise Unavailable("this worker does not compute KV for others")
        whole = job.whole or ("staging_limit" if self._weight(job) > self._facts.max_staged_bytes else "")
        if whole:
            return Outcome(worker_pb2.Usage(), whole_reason=whole)
        prompt = job.prompts[0]
        lease = self._holder.reserve(len(prompt))
        work = Prefill(self._prompt_kv.compute, self._clock.time)
        sequence = self._sequence(job, prompt, call, work)
        try:
            self._stepper.submit(sequence)
            rows = await work.rows
        except BaseException:
            self._holder.staging.release(lease)
            raise
        finally:
            self._stepper.drop(sequence)
        hashed = content_hash(prompt, cache_salt=job.cache_salt)
        return Outcome(
            worker_pb2.Usage(prompt_tokens=len(prompt), cached_tokens=sequence.reused, computed_tokens=sequence.own),
            timings=self._timings(began, work.admitted_at, None),
            kv=self._holder.stage(lease, rows, hashed),
        )

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        """See `Engine.generate`."""
        began = self._clock.time()
        job = self._reader.read(call)
        if call.api == worker_pb2.API_COUNT_TOKENS:
            return _count(job, reply)
        takeover = None if job.whole or call.kv is None else self._takeover
        if takeover is not None:
            takeover.accept(call, job)
        answer = Answer(
            job,
            encoder(job, call, self._identity.model, int(self._clock.wall())),
            reply,
            self._voice,
            self._facts.max_model_len,
            self._prompt_kv.state,
            self._clock.time,
        )
        answer.report.reason = call.whole_reason or job.whole
        sequences = [
            self._sequence(job, job.prompts[choice.index // job.choices], call, choice, remote=takeover is not None)
            for choice in answer.choices
        ]
        try:
            for sequence in sequences:
                self._stepper.submit(sequence)
            if takeover is not None:
                await takeover.take(call, sequences[0], answer)
            await answer.done
        finally:
            self._stepper.drop(*sequences)
        usage = answer.usage
        return Outcome(
            worker_pb2.Usage(
                prompt_tokens=usage.prompt,
                completion_tokens=usage.completion,
                cached_tokens=usage.cached,
                computed_tokens=sum(sequence.own for sequence in sequences),
            ),
            finish_reason=answer.choices[0].finish_reason,
            timings=self._timings(began, answer.admitted_at, answer.first_token_at),
        )

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        if self._holder is None:
            raise Unavailable("this worker holds no KV for others")
        return self._holder.hand_on(lease)

    def release(self, lease: bytes) -> None:
        if self._holder is not None:
            self._holder.staging.release(lease)

    def _weight(self, job: Job) -> int:
        return self._shape.blocks(len(job.prompts[0])) * self._shape.block_bytes

    def _sequence(
        self, job: Job, prompt: Ordered[int], call: Call, consumer: Consumer, *, remote: bool = False
    ) -> Sequence:
        keys = block_keys(prompt, self._shape.block_size, job.cache_salt)
        order = self._clock.time() + call.priority * AGEING_SECONDS
        return Sequence(prompt, keys, order, consumer, remote=remote)

    def _timings(self, began: float, admitted_at: float | None, first_token_at: float | None) -> worker_pb2.Timings:
        def micros(moment: float | None) -> int:
            return 0 if moment is None else round((moment - began) * 1e6)

        return worker_pb2.Timings(
            queued_micros=micros(admitted_at),
            first_token_micros=micros(first_token_at),
            total_micros=micros(self._clock.time()),
        )


def _count(job: Job, reply: Reply) -> Outcome:
    """Answers how many tokens a prompt has, without computing any."""
    tokens = len(job.prompts[0])
    say_json(reply, count_body(tokens))
    return Outcome(worker_pb2.Usage(prompt_tokens=tokens))
