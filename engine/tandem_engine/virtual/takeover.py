"""How a virtual decode engine takes a prompt's KV over: accepts its handle, fetches it, or has the prompt computed."""

from tandem_proto.tandem.v1 import kv_pb2, worker_pb2

from tandem_engine import tracing
from tandem_engine.engine import Call
from tandem_engine.kv.assembly import FetchFailed
from tandem_engine.kv.content import check_handle, content_hash
from tandem_engine.virtual.answering import Answer
from tandem_engine.virtual.clock import Clock
from tandem_engine.virtual.jobs import Job
from tandem_engine.virtual.kv_bytes import KvShape
from tandem_engine.virtual.planning import Sequence
from tandem_engine.virtual.prompt_kv import PromptKv
from tandem_engine.virtual.stepping import Stepper
from tandem_engine.virtual.transfer import CONNECTOR, Fetcher


class Takeover:
    """Of one engine.

    Args:
        identity: the worker's: what it accepts.
        shape: of the KV.
        fetcher: moves the bytes.
        prompt_kv: learns what the bytes mean.
        stepper: told when a sequence's KV has arrived, or is lost.
        clock: the engine's time.
    """

    def __init__(
        self,
        identity: worker_pb2.Identity,
        shape: KvShape,
        fetcher: Fetcher,
        prompt_kv: PromptKv,
        stepper: Stepper,
        clock: Clock,
    ) -> None:
        self._identity = identity
        self._shape = shape
        self.fetcher = fetcher
        self._prompt_kv = prompt_kv
        self._stepper = stepper
        self._clock = clock
        self._fetches = 0
        self._failures = 0

    def totals(self) -> dict[str, int]:
        return {
            "kv_fetches": self._fetches,
            "kv_fetch_failures": self._failures,
            "kv_bytes_received": self.fetcher.received,
        }

    def accept(self, call: Call, job: Job) -> None:
        """Raises KvMismatch where the call's KV is not of its prompt on this engine's model."""
        assert call.kv is not None
        prompt = job.prompts[0]
        check_handle(
            call.kv,
            model=self._identity.model,
            version=self._identity.version,
            revision=self._identity.revision,
            layout=self._shape.layout(),
            content_hash=content_hash(prompt, cache_salt=job.cache_salt),
            tokens=len(prompt),
        )

    async def take(self, call: Call, sequence: Sequence, answer: Answer) -> None:
        """Fetches the call's KV into the sequence's blocks, once it has them; else the prompt is computed here."""
        assert call.kv is not None
        async with self.fetcher.keeping(call.kv):
            await answer.admitted
        with tracing.span("kv_transfer", call.trace, connector=CONNECTOR, peer=call.kv.holder):
            await self._fetch(call.kv, sequence, answer)

    async def _fetch(self, handle: kv_pb2.KvHandle, sequence: Sequence, answer: Answer) -> None:
        report = answer.report
        report.connector, report.peer = CONNECTOR, handle.holder
        first_block = sequence.reused // self._shape.block_size
        began = self._clock.time()
        self._fetches += 1
        try:
            fetched = await self.fetcher.fetch(handle, first_block)
        except FetchFailed as failure:
            self._failures += 1
            report.outcome, report.reason = worker_pb2.KvReport.RECOMPUTED, failure.reason
            self._stepper.kv_lost(sequence)
        else:
            report.outcome, report.reason = worker_pb2.KvReport.TRANSFERRED, ""
            report.bytes, report.blocks = fetched.bytes, fetched.blocks
            answer.choices[0].knows(self._prompt_kv.learn(sequence, fetched.rows), sequence)
            self._stepper.kv_arrived(sequence)
        report.micros = round((self._clock.time() - began) * 1e6)
        outcome = worker_pb2.KvReport.Outcome.Name(report.outcome).lower()
        tracing.note(outcome=outcome, reason=report.reason, bytes=report.bytes, blocks=report.blocks)
