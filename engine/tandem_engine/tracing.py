"""OpenTelemetry spans of a call, where OTEL_EXPORTER_OTLP_ENDPOINT is configured; where not, they cost nothing.

The trace context comes with the call as W3C headers and goes on with it: `span` yields the headers of a child, so that
an engine's own spans, whatever process makes them, hang below it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import ProxyTracerProvider, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@contextmanager
def exporting(service: str, environ: Mapping[str, str], attributes: Mapping[str, str]) -> Iterator[None]:
    """Exports this process's spans over OTLP while entered, if `environ` names an endpoint.

    `service` is the OpenTelemetry service name, `attributes` describe the resource (model, version, ...).
    """
    if not environ.get(ENDPOINT):
        yield
        return
    # Imported here: a worker that exports nothing does not pay for the SDK.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, **attributes}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def headers(traceparent: str, tracestate: str) -> Mapping[str, str]:
    """W3C trace context headers, without those that are empty."""
    if not traceparent:
        return {}
    return {"traceparent": traceparent, "tracestate": tracestate} if tracestate else {"traceparent": traceparent}


def span(name: str, parent: Mapping[str, str], **attributes: str | int) -> AbstractContextManager[Mapping[str, str]]:
    """A span below the one that `parent`, W3C headers, names; yields the headers for what is done inside of it."""
    if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return nullcontext(parent)
    return _span(name, parent, attributes)


def note(**attributes: str | int) -> None:
    """Adds what has become known to the innermost `span` that is open."""
    trace.get_current_span().set_attributes(_named(attributes))


def past(name: str, parent: Mapping[str, str], *, ago: float, seconds: float, **attributes: str | int) -> None:
    """A span below `parent` of what was done elsewhere: it began `ago` seconds before now and took `seconds`."""
    if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return
    began = time.time_ns() - round(ago * 1e9)
    context = TraceContextTextMapPropagator().extract(parent)
    made = trace.get_tracer("tandem").start_span(name, context=context, start_time=began, attributes=_named(attributes))
    made.end(began + round(seconds * 1e9))


def _named(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"tandem.{key}": value for key, value in attributes.items()}


@contextmanager
def _span(name: str, parent: Mapping[str, str], attributes: Mapping[str, str | int]) -> Iterator[Mapping[str, str]]:
    propagator = TraceContextTextMapPropagator()
    # The texts of errors may quote the request: a span says that it failed and the exception's type, no more.
    with trace.get_tracer("tandem").start_as_current_span(
        name,
        context=propagator.extract(parent),
        attributes=_named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as active:
        carrier: dict[str, str] = {}
        propagator.inject(carrier)
        try:
            yield carrier
        except BaseException as error:
            active.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
