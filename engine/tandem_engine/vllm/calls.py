"""What one call does: prefill holds a prompt's KV under a lease, generate answers, with such KV or without.

vLLM does not check that a prompt matches the KV it is given. Here a handle is checked against the prompt's own hash
before the engine sees the request.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from tandem_api.surfaces.messages import count_body
from tandem_api.worker import WorkerConfig
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest
from vllm.sampling_params import RequestOutputKind, SamplingParams

from tandem_engine import tracing
from tandem_engine.engine import Call, Facts, Outcome, Reply, say_json
from tandem_engine.errors import CallError, EngineDead, KvGone, KvMismatch
from tandem_engine.kv.client import KvClient
from tandem_engine.kv.content import check_handle
from tandem_engine.kv.renewing import RENEW_SECONDS, renewing
from tandem_engine.kv.slices import slices
from tandem_engine.vllm import failures, params, requests
from tandem_engine.vllm.content import prompt_hash
from tandem_engine.vllm.holder import Holder
from tandem_engine.vllm.serving import Serving
from tandem_engine.vllm.stats import CallStats, Watch
from tandem_engine.vllm.tap import CallTap
from tandem_engine.vllm.unsent import take_back

BODY_PIECE_BYTES: Final = 64 * 1024
"""Of a JSON answer, given to the reply at once."""

SSE: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Calls:
    """Runs calls on a started engine. See `Engine.prefill` and `Engine.generate`."""

    config: WorkerConfig
    facts: Facts
    serving: Serving
    watch: Watch
    holder: Holder
    name: str
    addresses: Sequence[str]
    """Of each rank's KvTransfer."""
    clock: Callable[[], float]
    keys: "itertools.count[int]"
    client: KvClient

    async def prefill(self, call: Call) -> Outcome:
        request = self._parse(call)
        if reason := requests.whole_reason(request):
            return Outcome(worker_pb2.Usage(), whole_reason=reason)
        prompts, lora = await self.serving.render(request)
        outcome = Outcome(worker_pb2.Usage())
        try:
            outcome = await self._prefill(call, prompts, lora)
            return outcome
        finally:
            if outcome.kv is None:
                take_back(self.serving.engine, prompts)

    async def _prefill(self, call: Call, prompts: list[Any], lora: Any) -> Outcome:
        if reason := self._whole_prompt(prompts):
            return Outcome(worker_pb2.Usage(), whole_reason=reason)
        (prompt,) = prompts
        tokens = len(prompt["prompt_token_ids"])
        handle = kv_pb2.KvHandle(
            model=self.config.model,
            version=self.config.version,
            revision=self.config.revision,
            layout=self.facts.layout,
            content_hash=prompt_hash(prompt, _adapter(lora)),
            tokens=tokens,
            blocks=-(-tokens // self.facts.layout.block_size),
            holder=self.name,
            addresses=self.addresses,
            connector=self.config.kv_transfer.connector,
        )
        handle.bytes = handle.blocks * self.facts.layout.block_bytes
        if handle.bytes > self.holder.limits.max_bytes:
            return Outcome(worker_pb2.Usage(), whole_reason="staging_limit")
        handle.lease = self.holder.reserve(handle.bytes)
        try:
            return await self._hold(call, prompt, lora, handle)
        except BaseException as error:
            self.holder.release(handle.lease)
            if isinstance(error, Exception):
                raise failures.from_exception(error) from error
            raise

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        request = self._parse(call)
        if isinstance(request, AnthropicCountTokensRequest):
            return await self._count(request, reply)
        not_carried = requests.whole_reason(request) or await self._lost(call)
        run = _Run(self, call, reply, SSE if request.stream else JSON, not_carried)
        try:
            async with renewing(self.client, None if not_carried else call.kv) as run.kv_is_here:
                return await self._answer(call, request, run)
        except CallError as error:
            if error.code == worker_pb2.INTERNAL and self.serving.engine.errored:
                raise EngineDead(failures.DEAD) from error  # in a stream vLLM does not say which
            raise
        finally:
            self.watch.forget(run.key)
            await run.tap.abort()

    async def _answer(self, call: Call, request: requests.Request, run: "_Run") -> Outcome:
        answer = await self.serving.create(request, run.tap, self._headers(call), call.response_id)
        if isinstance(answer, AsyncGenerator):
            await _stream(answer, run.data)
        else:
            for start in range(0, len(answer), BODY_PIECE_BYTES):
                run.data(answer[start : start + BODY_PIECE_BYTES])
        return Outcome(run.tap.usage(run.stats), run.tap.finish_reason, run.tap.timings())

    def _parse(self, call: Call) -> requests.Request:
        return requests.parse(call, max_tokens=self.config.max_tokens, reasons=self.serving.reasons)

    async def _count(self, request: AnthropicCountTokensRequest, reply: Reply) -> Outcome:
        prompts, _ = await self.serving.render(request)
        take_back(self.serving.engine, prompts)
        tokens = sum(len(prompt["prompt_token_ids"]) for prompt in prompts)
        say_json(reply, count_body(tokens))
        return Outcome(worker_pb2.Usage(prompt_tokens=tokens))

    async def _hold(self, call: Call, prompt: Any, lora: Any, handle: kv_pb2.KvHandle) -> Outcome:
        """Computes the prompt; its KV is staged in the step that completes it."""
        key = self._key(call)
        tap = CallTap(self.serving.engine, lambda *_: params.hold(key, handle), self.clock)
        sampling = SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        stats = self.watch.follow(key)
        try:
            async with aclosing(
                tap.generate(prompt, sampling, call.response_id, lora_request=lora, priority=self._priority(call))
            ) as outputs:
                output = [output async for output in outputs][-1]
        finally:
            self.watch.forget(key)
            await tap.abort()
        if tap.finish_reason in ("", "abort", "error"):
            raise CallError(failures.FAILED)
        params.complete(handle, output.kv_transfer_params, stats.staged)
        usage = tap.usage(stats)
        usage.completion_tokens = 0  # the one token that ends the prompt is drawn again at decode
        return Outcome(usage, tap.finish_reason, tap.timings(), kv=self.holder.grant(handle))

    async def _lost(self, call: Call) -> str:
        """Why the KV of a handle is gone. NIXL reads memory that nobody guards: the lease is renewed before it does."""
        if call.kv is None or call.kv.connector != "nixl":
            return ""
        try:
            await asyncio.to_thread(self.client.renew, call.kv.addresses[0], call.kv.lease, timeout=RENEW_SECONDS)
        except KvGone:
            return "gone"
        except ConnectionError:
            return "unreachable"
        return ""

    def _whole_prompt(self, prompts: list[Any]) -> str:
        if len(prompts) != 1:
            return "several_prompts"
        if prompts[0]["type"] == "embeds":
            return "prompt_embeds"
        if prompts[0]["type"] != "token" and not self.serving.hashes_inputs:
            return "multimodal"
        return ""

    def _key(self, call: Call) -> str:
        return f"{call.response_id}/{next(self.keys)}"

    def _priority(self, call: Call) -> int:
        return call.priority if self.serving.by_priority else 0

    def _headers(self, call: Call) -> Mapping[str, str]:
        priority = {"x-vllm-priority": str(call.priority)} if self.serving.by_priority else {}
        return {**call.trace, **priority}


class _Run:
    """A call that is being answered: its tap, and how it came by its KV."""

    def __init__(self, calls: Calls, call: Call, reply: Reply, content_type: str, not_carried: str) -> None:
        self.key = calls._key(call)
        self.stats: CallStats | None = calls.watch.follow(self.key) if calls.config.disaggregated else None
        self.tap = CallTap(calls.serving.engine, self._admit, calls.clock, self._begin)
        self._reply = reply
        self._content_type = content_type
        self._begun = False
        self._calls = calls
        self._call = call
        self._not_carried = not_carried
        self.kv_is_here: Callable[[], None] = lambda: None
        """Ends the renewal of the KV's lease."""

    def report(self) -> worker_pb2.KvReport:
        """Final once the first output is there: a transfer is over by then."""
        handle = self._call.kv
        if handle is None:
            return worker_pb2.KvReport(outcome=worker_pb2.KvReport.WHOLE, reason=self._call.whole_reason)
        report = worker_pb2.KvReport(connector=handle.connector, peer=handle.holder)
        transfers = self.stats.transfers if self.stats else []
        reasons = sorted({transfer.reason for transfer in transfers if transfer.reason})
        if self._not_carried or reasons:
            report.outcome = worker_pb2.KvReport.RECOMPUTED
            report.reason = self._not_carried or reasons[0]
            return report
        report.outcome = worker_pb2.KvReport.TRANSFERRED
        report.bytes = sum(transfer.bytes for transfer in transfers)
        report.blocks = max((transfer.blocks for transfer in transfers), default=0)
        report.micros = max((transfer.micros for transfer in transfers), default=0)
        if not transfers:
            report.reason = "cached"  # the engine's own prefix cache had it all
        return report

    def data(self, chunk: bytes) -> None:
        self._begin()  # an answer may have no token at all
        self._reply.data(chunk)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.kv_is_here()
            report = self.report()
            self._trace_transfer(report)
            self._reply.started(200, self._content_type, 0, report)

    def _trace_transfer(self, report: worker_pb2.KvReport) -> None:
        """The transfer was done in the engine's processes, which make no spans."""
        if transfers := self.stats.transfers if self.stats else []:
            began = min(transfer.began for transfer in transfers)
            tracing.past(
                "kv_transfer",
                self._call.trace,
                ago=self._calls.clock() - began,
                seconds=max(transfer.began + transfer.micros / 1e6 for transfer in transfers) - began,
                connector=report.connector,
                peer=report.peer,
                outcome=worker_pb2.KvReport.Outcome.Name(report.outcome).lower(),
                reason=report.reason,
                bytes=report.bytes,
                blocks=report.blocks,
            )

    def _admit(self, prompt: Any, lora: Any) -> Mapping[str, Any]:
        try:
            return self._checked(prompt, lora)
        except CallError:
            take_back(self._calls.serving.engine, [prompt])
            raise

    def _checked(self, prompt: Any, lora: Any) -> Mapping[str, Any]:
        """The engine's kv_transfer_params, where the handle is of this prompt."""
        handle = self._call.kv
        if self.stats is None:
            if handle is not None:
                raise KvMismatch("the KV handle is not for this call: this worker serves without KV transfer")
            return {}
        if handle is None or self._not_carried:
            return params.compute(self.key)
        if handle.connector != self._calls.config.kv_transfer.connector:
            raise KvMismatch(
                f"the KV handle is of connector {handle.connector!r}, here {self._calls.config.kv_transfer.connector!r}"
            )
        _check_ranks(handle, self._calls.facts.layout)
        check_handle(
            handle,
            model=self._calls.config.model,
            version=self._calls.config.version,
            revision=self._calls.config.revision,
            layout=self._calls.facts.layout,
            content_hash=prompt_hash(prompt, _adapter(lora)),
            tokens=len(prompt["prompt_token_ids"]),
        )
        return params.fetch(self.key, handle)


def _check_ranks(handle: kv_pb2.KvHandle, ours: kv_pb2.KvLayout) -> None:
    """Refuses a holder whose ranks can't have what ours need."""
    theirs = handle.layout.tensor_parallel
    try:
        for rank in range(ours.tensor_parallel):
            slices(theirs, ours.tensor_parallel, rank, ours.kv_heads)
    except (ValueError, ZeroDivisionError) as error:
        raise KvMismatch(f"the KV handle is not for this call: tensor_parallel {theirs}: {error}") from error
    if handle.connector == "grpc" and len(handle.addresses) != theirs:
        raise KvMismatch(f"the KV handle names {len(handle.addresses)} addresses for tensor_parallel {theirs}")


async def _stream(events: AsyncGenerator[str, None], say: Callable[[bytes], None]) -> None:
    async with aclosing(events):
        async for event in events:
            if error := failures.from_event(event):
                raise error
            say(event.encode())


def _adapter(lora: Any) -> str:
    return lora.lora_name if lora is not None else ""
