"""What is counted, logged and traced of requests."""

import asyncio
import json
import logging
import re
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tandem_api.topology import Topology
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.__main__ import main
from tandem_router.telemetry.logs import JsonFormatter
from tandem_router.telemetry.measures import RATE_SECONDS, RECENT_SECONDS, Distribution, Rate, Recent
from tandem_router.telemetry.otel import OtlpTracer

from tests.router.fake_worker import FakeCall, fail_with, hang, words
from tests.router.house import CHAT, STREAM, OpenHouse, fake

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_its_rank(values: list[float], q: float) -> None:
    distribution = Distribution((1.0, 2.0, 5.0, 10.0, 50.0, 100.0))
    for value in values:
        distribution.observe(value)
    found = distribution.quantile(q)
    assert found is not None
    below = sum(value <= bound for value in values for bound in [next(b for b in distribution.bounds if b >= found)])
    assert below >= q * len(values)


def test_recent_values_are_forgotten() -> None:
    clock = Clock()
    recent = Recent(clock)
    recent.observe(5.0)
    clock.now += RECENT_SECONDS
    assert recent.quantile(0.5) is not None
    clock.now += 2 * RECENT_SECONDS
    assert recent.quantile(0.5) is None


def test_rates_roll_and_average() -> None:
    clock = Clock()
    rate = Rate(clock)
    clock.now += 10
    rate.add(100, 2.0)
    assert (rate.ewma, rate.rolling) == (50.0, 10.0)
    rate.add(100, 1.0)
    assert rate.ewma == pytest.approx(55.0)
    clock.now += RATE_SECONDS + 1
    assert rate.rolling == 0.0


async def test_the_metrics_with_fixed_names_count_streams_too(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        await h.chat(STREAM)
        await h.chat()
        assert await h.metric("tokens_generated_total") == 4
        assert await h.metric("requests_total") == 2
        assert await h.metric("request_latency_ms_count") == 2
        assert await h.metric('request_latency_ms_bucket{le="10000.0"}') == 2
        assert await h.metric("tokens_per_second_ewma") > 0
        assert await h.metric("active_requests") == 1


async def test_errors_are_counted_under_a_bounded_set_of_endpoints(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        for number in range(5):
            await h.http.get(f"/nothing/{number}")
            await h.http.get(f"/v1/models/none/{number}")
        await h.chat({"model": "none"})
        assert await h.metric('errors_total{endpoint="other",status_code="404"}') == 5
        assert await h.metric('errors_total{endpoint="/v1/models/{id}",status_code="404"}') == 5
        assert await h.metric('errors_total{endpoint="/v1/chat/completions",status_code="404"}') == 1


async def test_retries_are_counted_by_role_and_reason(open_house: OpenHouse) -> None:
    bad = fake("decode", "d0", fail_with(pb.UNAVAILABLE))
    async with open_house(decode=[bad, fake("decode", "d1")]) as h:
        for _ in range(2):
            await h.chat()
        labels = 'reason="unavailable",role="decode",service="default/m",version="v1"'
        assert await h.metric(f"tandem_router_retries_total{{{labels}}}") >= 1


async def test_recomputed_kv_is_said(open_house: OpenHouse) -> None:
    async def recompute(call: FakeCall) -> None:
        call.started(kv=pb.KvReport(outcome=pb.KvReport.RECOMPUTED, reason="expired"))
        call.data(*words("Hello"), b"data: [DONE]\n\n")
        call.finished()

    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", recompute)], server_timing=True) as h:
        answer = await h.chat(STREAM)
        assert 'desc="recomputed reason=expired"' in answer.headers["server-timing"]
        labels = 'outcome="recomputed",reason="expired",service="default/m",version="v1"'
        assert await h.metric(f"tandem_router_kv_outcomes_total{{{labels}}}") == 1
        version = (await h.http.get("/tandem/v1/status")).json()["services"][0]["versions"][0]
        assert version["recomputed"] == {"expired": 1}


async def test_each_request_is_one_json_line(open_house: OpenHouse, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        await h.chat(STREAM, headers={"x-request-id": "ask-1"})
        await h.http.get("/nothing%0ahere")
        await h.chat({"model": "no\nbody"})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith('{"time"')]
    asked, missing, unknown = [line for line in lines if line.get("message") == "request"]
    assert (asked["level"], asked["status_code"], asked["request_id"]) == ("info", 200, "ask-1")
    assert (asked["prompt_tokens"], asked["completion_tokens"], asked["kv_bytes"]) == (3, 2, 2048)
    assert (asked["prefill_worker"], asked["decode_worker"]) == ("p0", "d0")
    assert (missing["level"], missing["path"]) == ("warning", "/nothing%0ahere")
    assert (unknown["model"], unknown["error"]) == ("no\nbody", "model_not_found")


async def test_a_stream_that_failed_is_logged_as_an_error(
    open_house: OpenHouse, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail_late(call: FakeCall) -> None:
        call.started()
        call.data(*words("Hel"))
        call.failed(pb.INTERNAL)

    async with open_house(decode=[fake("decode", "d0", fail_late)]) as h:
        await h.chat(STREAM)
    line = next(json.loads(line) for line in capsys.readouterr().err.splitlines() if '"request"' in line)
    assert (line["level"], line["status_code"], line["error"]) == ("error", 200, "internal")


async def test_a_client_that_leaves_is_a_499_and_no_error_of_the_version(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0", hang)]) as h:
        task = asyncio.create_task(h.chat())
        await h.until(lambda: h.decode[0].open)
        task.cancel()
        await asyncio.wait([task])
        await h.at_rest()
        assert await h.metric('tandem_router_requests_total{code="499",service="default/m",version="v1"}') == 1
        version = (await h.http.get("/tandem/v1/status")).json()["services"][0]["versions"][0]
        assert (version["requests"], version["errors"]) == (1, 0)


async def test_a_request_is_one_trace_and_workers_get_its_context(open_house: OpenHouse) -> None:
    exported = InMemorySpanExporter()
    tracer = OtlpTracer(exported)
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")], tracer=tracer) as h:
        await h.chat(CHAT, headers={"traceparent": PARENT})
        contexts = [w.calls[0].submit.traceparent for w in (*h.prefill, *h.decode)]
    spans = {span.name: span for span in exported.get_finished_spans()}
    assert set(spans) == {"chat org/m", "queue", "prefill", "decode"}
    server = spans.pop("chat org/m")
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {f"{span.context.trace_id:032x}" for span in (server, *spans.values())} == {PARENT[3:35]}
    assert all(span.parent.span_id == server.context.span_id for span in spans.values() if span.parent)
    assert contexts == [f"00-{PARENT[3:35]}-{spans[name].context.span_id:016x}-01" for name in ("prefill", "decode")]
    assert server.attributes is not None
    assert server.attributes["gen_ai.usage.output_tokens"] == 2


@pytest.mark.parametrize(("sent", "passed"), [(PARENT, PARENT), ("00-nonsense-01", "")])
async def test_without_tracing_a_clients_context_goes_through(open_house: OpenHouse, sent: str, passed: str) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        await h.chat(CHAT, headers={"traceparent": sent})
        assert [w.calls[0].submit.traceparent for w in (*h.prefill, *h.decode)] == [passed, passed]


async def test_probes_and_scrapes_are_not_counted_as_requests(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml"):
            assert (await h.http.get(path)).status_code == 200
        assert await h.metric("requests_total") == 0
        assert await h.metric("request_latency_ms_count") == 0
        await h.http.get("/v1/models")
        assert await h.metric("requests_total") == 1


async def test_the_buckets_of_the_latency_are_a_setting(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")], latency_buckets_ms=(7.0, 60000.0)) as h:
        await h.chat()
        lines = [x for x in (await h.http.get("/metrics")).text.splitlines() if x.startswith("request_latency_ms_bu")]
        assert [line.split('"')[1] for line in lines] == ["7.0", "60000.0", "+Inf"]


@pytest.mark.parametrize("given", ["", "10,x", "10,5", "0,10", "10,inf"])
def test_wrong_buckets_are_refused_at_the_start(given: str) -> None:
    result = CliRunner().invoke(main, ["--topology", "none", "--latency-buckets-ms", given])
    assert (result.exit_code, "--latency-buckets-ms" in result.output) == (2, True)


async def test_what_requests_hold_can_be_watched_and_returns_to_zero(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", hang)]) as h:
        asking = asyncio.create_task(h.chat(STREAM))
        await h.until(lambda: h.decode[0].open)
        assert [await h.metric(f"tandem_router_{what}") for what in ("placed", "leases")] == [1, 1]
        # A worker that has left still counts, for as long as it has calls.
        h.write_topology(Topology())
        await h.until(lambda: not list(h.router.fleet.workers))
        assert [await h.metric(f"tandem_router_{what}") for what in ("placed", "leases")] == [1, 1]
        asking.cancel()
        await asyncio.wait([asking])
        await h.until(lambda: not h.router.fleet.placed)
        text = (await h.http.get("/metrics")).text.splitlines()
        assert {"tandem_router_placed 0.0", "tandem_router_leases 0.0"} <= set(text)


async def test_streams_that_are_cut_are_counted_by_reason_and_their_tokens_nowhere(open_house: OpenHouse) -> None:
    async def begin(call: FakeCall) -> None:
        call.started()
        call.data(*words("Hel"))
        if b"fail" in call.body:
            call.failed(pb.INTERNAL)

    async with open_house(decode=[fake("decode", "d0", begin)]) as h:
        await h.chat({**STREAM, "user": "fail"})
        async with h.http.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            await anext(answer.aiter_bytes())
        await h.at_rest()
        for reason in ("internal", "client_closed"):
            assert await h.metric(f'tandem_router_cut_streams_total{{reason="{reason}"}}') == 1
        assert await h.metric("tokens_generated_total") == 0


async def test_the_workers_own_ttft_is_told(open_house: OpenHouse) -> None:
    async def timed(call: FakeCall) -> None:
        call.started()
        call.data(*words("Hello"), b"data: [DONE]\n\n")
        call.finished(timings=pb.Timings(first_token_micros=250_000))

    async with open_house(decode=[fake("decode", "d0", timed)]) as h:
        await h.chat(STREAM)
        assert await h.metric('tandem_router_worker_ttft_seconds_sum{service="default/m",version="v1"}') == 0.25


def test_the_programs_own_logs_are_json_lines_with_the_fields_that_workers_use() -> None:
    logger = logging.getLogger("tandem_router.test")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        made = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 1, "request %s", ("r1",), sys.exc_info(),
            extra={"worker": "d0", "color_message": "\x1b[1mrequest\x1b[0m"},
        )  # fmt: skip
    line = JsonFormatter().format(made)
    assert "\n" not in line
    said = json.loads(line)
    assert list(said)[:4] == ["time", "level", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said.pop("exception").endswith("ValueError: what went wrong")
    assert said == {"level": "error", "logger": "tandem_router.test", "message": "request r1", "worker": "d0"}
