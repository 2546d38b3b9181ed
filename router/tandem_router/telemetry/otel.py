"""`tandem_router.telemetry.tracing` on OpenTelemetry's SDK, imported only where traces are exported."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tandem_router.telemetry.tracing import Attributes, Context, Span, incoming

_W3C = TraceContextTextMapPropagator()


class OtlpTracer:
    """Spans of the SDK, sent in batches by a thread of the SDK's."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": "tandem-router"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tandem_router")

    @classmethod
    def exporting_to(cls, endpoint: str) -> "OtlpTracer":
        return cls(OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://")))

    def serve(self, name: str, headers: Mapping[bytes, bytes], attributes: Attributes) -> Span:
        traceparent, tracestate = incoming(headers)
        parent = _W3C.extract({"traceparent": traceparent, "tracestate": tracestate})
        span = self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes())
        return _OtelSpan(self._tracer, span)

    def close(self) -> None:
        self._provider.shutdown()


class _OtelSpan:
    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(type(error).__name__)
        self._span.end()

    @property
    def context(self) -> Context:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent", ""), carrier.get("tracestate", "")

    def child(self, name: str) -> Span:
        inside = trace.set_span_in_context(self._span)
        return _OtelSpan(self._tracer, self._tracer.start_span(name, inside, trace.SpanKind.CLIENT))

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes())

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, reason))
