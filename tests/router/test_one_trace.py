"""One request is one trace, from the client's span through the router to prefill, decode and the KV between them."""

import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.router.platforms import MESSAGES, platform

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it gets, with the service that made each."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            (service,) = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self) -> dict[str, tuple[str, Span]]:
        """The spans of the trace, by their names."""
        mine = [(service, span) for service, span in self.spans if span.trace_id.hex() == TRACE]
        return {f"{service}: {span.name}": (service, span) for service, span in mine}

    @contextmanager
    def serving(self) -> Iterator[str]:
        server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


NAMES = {
    "tandem-router: chat sky",
    "tandem-router: queue",
    "tandem-router: prefill",
    "tandem-router: decode",
    "tandem-prefill: prefill",
    "tandem-decode: decode",
    "tandem-decode: kv_transfer",
}


def test_one_trace_spans_router_prefill_kv_transfer_and_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    with collector.serving() as endpoint:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with platform(tmp_path, "prefill-0", "decode-0") as here:
            headers = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
            body = {"model": "sky", "messages": MESSAGES, "max_tokens": 4}
            assert here.http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
            end = time.monotonic() + 60
            while set(collector.of_trace()) != NAMES:
                assert time.monotonic() < end, set(collector.of_trace())
                time.sleep(0.05)
    spans = collector.of_trace()
    parents = {
        "tandem-router: queue": "tandem-router: chat sky",
        "tandem-router: prefill": "tandem-router: chat sky",
        "tandem-router: decode": "tandem-router: chat sky",
        "tandem-prefill: prefill": "tandem-router: prefill",
        "tandem-decode: decode": "tandem-router: decode",
        "tandem-decode: kv_transfer": "tandem-decode: decode",
    }
    assert spans["tandem-router: chat sky"][1].parent_span_id.hex() == CLIENT
    for child, parent in parents.items():
        assert spans[child][1].parent_span_id == spans[parent][1].span_id, child
    assert not [span.name for _, span in spans.values() if span.end_time_unix_nano <= span.start_time_unix_nano]
