"""Spans continue the router's trace where an endpoint is configured, and are not there where none is."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tandem_engine import tracing
from tandem_engine.errors import InvalidRequest
from tandem_proto.tandem.v1 import worker_pb2 as pb

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans(monkeypatch) -> Iterator[InMemorySpanExporter]:
    """Where spans go, in place of an endpoint."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Of the trace, the span and its parent."""
    assert span.parent is not None
    return (
        trace.format_trace_id(span.context.trace_id),
        trace.format_span_id(span.context.span_id),
        trace.format_span_id(span.parent.span_id),
    )


async def test_a_call_is_a_span_of_its_routers_trace_and_the_engine_goes_on_below_it(running, engine, spans):
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {"words": []}, traceparent=TRACEPARENT)
        await router.end_of(1)
    (span,) = spans.get_finished_spans()
    trace_id, span_id, parent = ids(span)
    assert (span.name, trace_id, parent) == ("decode", TRACE, PARENT)
    assert span.attributes["tandem.response_id"] == "r1"
    assert engine.calls[0].trace["traceparent"] == f"00-{TRACE}-{span_id}-01"


async def test_a_failed_call_is_a_failed_span_that_quotes_nothing(running, engine, spans):
    async def answer(call, reply):
        raise InvalidRequest("a secret prompt")

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {}, traceparent=TRACEPARENT)
        assert (await router.end_of(1)).end.code == pb.INVALID_REQUEST
    (span,) = spans.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "InvalidRequest")
    assert "secret" not in span.to_json()


def test_without_an_endpoint_the_trace_goes_on_untouched():
    parent = tracing.headers(TRACEPARENT, "")
    with tracing.exporting("tandem-decode", {}, {}), tracing.span("decode", parent) as headers:
        assert headers is parent
