"""The transfer of a prompt's KV is a span of the request's trace, below the decode worker's."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tandem_engine import tracing

from tests.virtual_engine.conftest import RecordedReply, StartEngine, call, chat

ROUTER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize(
    ("faults", "outcome", "reason", "blocks"),
    [({}, "transferred", "", 1), ({"corrupt_wire": 100}, "recomputed", "checksum", 0)],
)
async def test_a_request_is_one_trace_over_prefill_transfer_and_decode(
    start: StartEngine, spans: InMemorySpanExporter, faults: dict, outcome: str, reason: str, blocks: int
) -> None:
    prefill, decode = await start("prefill", faults=faults), await start()
    with tracing.span("prefill", ROUTER) as context:
        handle = (await prefill.prefill(replace(call(chat()), trace=context))).kv
    assert handle is not None
    with tracing.span("decode", ROUTER) as context:
        await decode.generate(replace(call(chat(), kv=handle), trace=context), RecordedReply())
    made = {span.name: span for span in spans.get_finished_spans()}
    assert list(made) == ["prefill", "kv_transfer", "decode"]
    assert {trace.format_trace_id(span.context.trace_id) for span in made.values()} == {ROUTER["traceparent"][3:35]}
    transfer = made["kv_transfer"]
    assert transfer.parent is not None
    assert transfer.parent.span_id == made["decode"].context.span_id
    assert dict(transfer.attributes or {}) == {
        "tandem.connector": "grpc",
        "tandem.peer": "prefill-0",
        "tandem.outcome": outcome,
        "tandem.reason": reason,
        "tandem.bytes": blocks * 16 * 64,
        "tandem.blocks": blocks,
    }


def test_what_was_done_elsewhere_is_a_span_of_its_own_time(spans: InMemorySpanExporter) -> None:
    with tracing.span("decode", ROUTER) as context:
        tracing.past("kv_transfer", context, ago=3600.0, seconds=2.0, bytes=7)
    transfer, decode = spans.get_finished_spans()
    assert transfer.parent is not None
    assert transfer.parent.span_id == decode.context.span_id
    assert transfer.start_time is not None
    assert transfer.end_time is not None
    assert transfer.end_time - transfer.start_time == 2_000_000_000
    assert decode.start_time is not None
    assert 1800 * 10**9 < decode.start_time - transfer.start_time <= 3600 * 10**9
