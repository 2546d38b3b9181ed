"""When an answer begins: at its first token, streamed or not; with a span for the transfer that came before."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tandem_engine import tracing
from tandem_engine.vllm.tap import CallTap
from tandem_proto.tandem.v1.worker_pb2 import KvReport
from vllm.sampling_params import RequestOutputKind, SamplingParams

from tests.vllm_engine.engines import WAIT, Pair, Recorder, ask, completion, prompt

pytestmark = pytest.mark.vllm


async def test_its_lease_is_not_needed_any_more_when_it_begins(pair: Pair) -> None:
    for attempt in range(20):
        body = {"prompt": prompt(70, seed=800), "max_tokens": 60, "ignore_eos": True, "cache_salt": f"{attempt}"}
        handle = await pair.handle(body)
        reply, begun = Recorder(), asyncio.Event()
        reply.on_started = begun.set
        task = asyncio.create_task(pair.decode.generate(completion(body, kv=handle), reply))
        await asyncio.wait_for(begun.wait(), WAIT)
        if not task.done():
            break  # else all of it had come by the time that this process had its turn
    assert not task.done()
    assert (reply.chunks, reply.content_type, reply.kv.outcome) == ([], "application/json", KvReport.TRANSFERRED)
    pair.prefill.release(handle.lease)
    await task
    whole = await ask(pair.decode, completion({**body, "cache_salt": "computed here"}))
    assert reply.json["choices"] == whole.reply.json["choices"]


@pytest.mark.parametrize(
    "asked", [{}, {"logprobs": 2}, {"max_tokens": 1}, {"prompt_logprobs": 1, "logprobs": 0}, {"stop": ["e"]}]
)
async def test_it_is_what_vllm_says_when_it_is_asked_for_the_end_alone(pair: Pair, asked: dict[str, Any]) -> None:
    engine = pair.decode._serving.engine

    def sampling() -> SamplingParams:
        return SamplingParams(
            **{"max_tokens": 24, "temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY, **asked}
        )

    inputs = {"prompt_token_ids": prompt(40, seed=801)}
    (theirs,) = [output async for output in engine.generate(inputs, sampling(), "theirs")]
    begun: list[int] = []
    tap = CallTap(engine, lambda *_: {}, pair.decode._clock, lambda: begun.append(1))
    (ours,) = [output async for output in tap.generate(inputs, sampling(), "ours")]
    assert begun == [1]
    assert (ours.finished, str(ours.prompt_logprobs)) == (True, str(theirs.prompt_logprobs))
    for name in ("index", "text", "token_ids", "logprobs", "cumulative_logprob", "finish_reason", "stop_reason"):
        assert getattr(ours.outputs[0], name) == getattr(theirs.outputs[0], name), name


async def test_the_transfer_is_a_span_below_the_call(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    body = {"prompt": prompt(70, seed=802)}
    handle = await pair.handle(body)
    with tracing.span("decode", {}) as context:
        answer = await ask(pair.decode, completion(body, kv=handle, trace=context))
    transfer, decode = exporter.get_finished_spans()
    assert (transfer.name, transfer.parent.span_id) == ("kv_transfer", decode.context.span_id)
    assert transfer.context.trace_id == decode.context.trace_id
    assert decode.start_time < transfer.start_time < transfer.end_time < decode.end_time
    assert transfer.end_time - transfer.start_time == answer.reply.kv.micros * 1000
    assert dict(transfer.attributes) == {
        "tandem.connector": "grpc",
        "tandem.peer": handle.holder,
        "tandem.outcome": "transferred",
        "tandem.reason": "",
        "tandem.bytes": handle.bytes,
        "tandem.blocks": handle.blocks,
    }
