"""What a scrape of the metrics port says."""

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tandem_engine.engine import Outcome
from tandem_engine.errors import InvalidRequest
from tandem_engine.worker.metrics import MAX_REASONS, WorkerMetrics
from tandem_proto.tandem.v1 import worker_pb2 as pb

UNITS = ("_info", "_seconds", "_bytes", "_created")  # the last are prometheus-client's own
COUNTED = {"ready", "draining", "sessions", "open_calls", "running_calls", "waiting_calls"}
COUNTED |= {"kv_blocks", "kv_free_blocks", "kv_leases", "kv_fetches"}


async def scrape(worker) -> dict[str, object]:
    async with httpx.AsyncClient() as client:
        response = await client.get(f"http://127.0.0.1:{worker.ports.metrics}/metrics", timeout=60)
    assert response.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def value(families, name: str, **labels: str) -> float:
    for family in families.values():
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise KeyError(name)


async def test_calls_tokens_and_kv_are_counted(running, engine, eventually):
    report = pb.KvReport(outcome=pb.KvReport.TRANSFERRED, bytes=4096, blocks=2, micros=2000)

    async def answer(call, reply):
        if call.body == b"bad":
            raise InvalidRequest("bad")
        reply.started(200, "text/event-stream", 0, report)
        reply.data(b"data: x\n\n")
        if call.body == b"hang":
            await asyncio.Event().wait()
        return Outcome(pb.Usage(prompt_tokens=60, completion_tokens=7, computed_tokens=1, cached_tokens=0), "stop")

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"good")
        await router.end_of(1)
        await router.submit(2, b"bad")
        await router.end_of(2)
        await router.submit(3, b"hang")
        await router.until(lambda: 3 in router.calls and router.calls[3].data)
        await router.send(pb.Upward(cancels=[3]))
        await worker.at_rest()

        async def seen() -> bool:  # a scrape reads the last snapshot, which is at most a tenth of a second old
            return value(await scrape(worker), "tandem_engine_calls_total") == 3

        await eventually(seen)
        families = await scrape(worker)
    for outcome in ("finished", "invalid_request", "cancelled"):
        assert value(families, "tandem_worker_calls_total", outcome=outcome) == 1
    assert value(families, "tandem_worker_prompt_tokens_total") == 60
    assert value(families, "tandem_worker_computed_prompt_tokens_total") == 1
    assert value(families, "tandem_worker_generated_tokens_total") == 7
    assert value(families, "tandem_worker_ttft_seconds_count") == 1
    assert value(families, "tandem_worker_kv_calls_total", outcome="transferred") == 2
    assert value(families, "tandem_worker_kv_received_bytes_total") == 2 * 4096
    assert value(families, "tandem_worker_kv_transfer_seconds_count") == 2
    assert value(families, "tandem_worker_sessions") == 1
    assert value(families, "tandem_worker_ready") == 1
    assert value(families, "tandem_worker_kv_blocks") == 100
    assert value(families, "tandem_worker_events_total") >= value(families, "tandem_worker_frames_total") > 0
    assert value(families, "tandem_worker_info", role="decode", model="m", version="v1") == 1


async def test_every_metric_has_a_help_text_and_a_unit(running):
    async with running() as worker:
        families = await scrape(worker)
    assert len(families) > 20
    for name, family in families.items():
        assert name.startswith(("tandem_worker", "tandem_engine_")), name
        assert family.documentation, name
        plain = name.removeprefix("tandem_worker_")
        assert family.type in ("counter", "info") or name.endswith(UNITS) or plain in COUNTED, name


async def test_an_engine_that_speculates_says_how_often_it_was_right(running, engine, eventually):
    async with running(engine=engine) as worker:
        assert "speculative_acceptance_rate" not in await scrape(worker)
        engine.totals = lambda: {"draft_tokens": 80, "draft_tokens_accepted": 60}

        async def seen() -> bool:
            return "speculative_acceptance_rate" in await scrape(worker)

        await eventually(seen)
        families = await scrape(worker)
    assert value(families, "speculative_acceptance_rate") == 0.75
    assert value(families, "tandem_engine_draft_tokens_total") == 80


async def test_a_worker_that_starts_can_be_scraped(running, engine):
    engine.starting = asyncio.Event().wait
    async with running(engine=engine) as worker:
        assert value(await scrape(worker), "tandem_worker_ready") == 0


@pytest.mark.parametrize(
    "reasons", [[f"reason_{number}" for number in range(3 * MAX_REASONS)], ["a b", "x" * 41, "é;"]]
)
def test_reasons_do_not_make_labels_without_bound(reasons):
    metrics = WorkerMetrics(registry := CollectorRegistry())
    for reason in reasons:
        metrics.kv(pb.KvReport(outcome=pb.KvReport.WHOLE, reason=reason))
    (family,) = (family for family in registry.collect() if family.name == "tandem_worker_kv_calls")
    seen = {sample.labels["reason"] for sample in family.samples}
    assert len(seen) <= MAX_REASONS + 1
    assert "other" in seen


def test_an_unknown_outcome_is_counted():
    metrics = WorkerMetrics(registry := CollectorRegistry())
    metrics.kv(pb.KvReport(outcome=99, reason="later"))
    labels = {"outcome": "unknown", "reason": "later"}
    assert registry.get_sample_value("tandem_worker_kv_calls_total", labels) == 1
