"""Requests to a server with known delays, by a router and an upstream worker: what is measured is what was drawn."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.command import tandem, tandem_up
from tests.loopback import free_port

FIRST, END = 300, 200
"""Milliseconds: nobody sees less since the request, and however much more others on the machine make of it."""

TIMEOUT = 60


@contextmanager
def mock(*args: str) -> Iterator[str]:
    """`tandem mock` while the block runs; its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    process = subprocess.Popen([sys.executable, "-m", "tandem_cli", "mock", "--port", str(port), *args])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{url}/v1/models", timeout=TIMEOUT).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(TIMEOUT)


@pytest.fixture(scope="module")
def delays() -> Iterator[str]:
    with mock("--delays", str(FIRST), str(FIRST), str(END), str(END)) as url:
        yield url


@pytest.fixture(scope="module")
def router(delays: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("up")
    endpoint = {"label": "delays", "url": delays, "model": "theirs", "apiKey": {"name": "keys", "key": "DELAYS_KEY"}}
    manifest = {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "delayed"},
        "spec": {
            "versions": [{"name": "v1", "engine": {"type": "upstream", "upstream": {"endpoints": [endpoint]}}}],
            "decode": {"replicas": 1},
        },
    }
    (folder / "delayed.yaml").write_text(yaml.safe_dump(manifest))
    with tandem_up(folder, "-f", folder / "delayed.yaml", DELAYS_KEY="s3cret") as up:
        yield up.url


def metric(url: str, name: str) -> float:
    """The sum over a metric's labels."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=TIMEOUT).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def report_of(url: str, *args: str | Path) -> Any:
    done = tandem("bench", url, "-o", "json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["figures"]


@pytest.mark.parametrize("way", ["delays", "router"])
def test_the_bench_measures_the_delays_that_were_given(way: str, request: pytest.FixtureRequest):
    found = report_of(request.getfixturevalue(way), "--concurrency", "4", "--requests", "12", "--warm-up", "2")
    assert FIRST / 1000 <= found["ttft"]["min"] <= found["ttft"]["p50"] < found["e2e"]["p50"] < TIMEOUT
    assert (FIRST + END) / 1000 <= found["e2e"]["min"] <= found["e2e"]["p50"]
    assert found["ttft"]["p50"] <= found["ttft"]["p95"] <= found["ttft"]["p99"] <= found["ttft"]["max"]
    assert (found["succeeded"], found["output_tokens"]) == (12, 12 * 7)


def test_an_open_loop_asks_on_time_though_answers_are_slow(delays: str):
    found = report_of(delays, "--rate", "40", "--requests", "120")
    # A client that waited for answers would need 120 times half a second.
    assert found["seconds"] < 120 * (FIRST + END) / 1000
    assert found["succeeded"] == 120


@pytest.mark.parametrize("api", ["messages", "responses"])
def test_streams_of_each_api_are_measured(router: str, api: str):
    found = report_of(f"{router}/v1/{api}", "--requests", "2", "--concurrency", "2")
    assert (found["succeeded"], found["output_tokens"]) == (2, 2 * 7)
    assert FIRST / 1000 <= found["ttft"]["min"] < found["e2e"]["min"]
    assert found["e2e"]["min"] >= (FIRST + END) / 1000


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
def test_whole_answers_of_each_api_are_measured(router: str, api: str):
    found = report_of(router, "--api", api, "--requests", "2", "--concurrency", "2", "--no-stream")
    assert (found["succeeded"], found["output_tokens"], found["ttft"]) == (2, 2 * 7, None)
    assert found["e2e"]["min"] >= FIRST / 1000


def test_a_trace_is_asked_for_when_it_says(delays: str, tmp_path: Path):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(json.dumps({"timestamp": at, "input_length": 9}) for at in (5000, 5400, 6000)))
    found = report_of(delays, "--trace", trace)
    assert found["succeeded"] == 3
    assert found["seconds"] >= 1.0 + (FIRST + END) / 1000


def test_ctrl_c_ends_a_measurement_with_a_report_of_what_was_done(delays: str):
    httpx.delete(f"{delays}/seen", timeout=TIMEOUT)
    command = [sys.executable, "-m", "tandem_cli", "bench", delays, "--duration", "600", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bench:
        deadline = time.monotonic() + 60
        while httpx.get(f"{delays}/seen", timeout=TIMEOUT).json()["calls"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        bench.send_signal(signal.SIGINT)
        told = json.loads(bench.communicate(timeout=60)[0])
    assert told["interrupted"] is True
    assert told["figures"]["succeeded"] >= 1
    assert bench.returncode == 0


def test_the_routers_metrics_are_of_what_was_drawn(router: str):
    before = (
        metric(router, "tandem_router_time_to_first_token_seconds_sum"),
        metric(router, "tandem_router_time_to_first_token_seconds_count"),
    )
    client = openai.OpenAI(base_url=f"{router}/v1", api_key="local")
    began = time.monotonic()
    for _ in range(3):
        for _chunk in client.chat.completions.create(
            model="delayed", messages=[{"role": "user", "content": "Hi"}], stream=True
        ):
            pass
    seen = time.monotonic() - began
    # A stream is counted when the router has ended it, which its client does not wait for.
    while (counted := metric(router, "tandem_router_time_to_first_token_seconds_count") - before[1]) < 3:
        assert time.monotonic() < began + TIMEOUT
        time.sleep(0.05)
    taken = metric(router, "tandem_router_time_to_first_token_seconds_sum") - before[0]
    assert counted == 3
    # One after the other, each within what its client saw of it.
    assert 3 * FIRST / 1000 <= taken < seen


def test_the_server_sees_its_own_model_and_no_key_of_a_client(router: str, delays: str):
    httpx.delete(f"{delays}/seen", timeout=TIMEOUT)
    client = openai.OpenAI(base_url=f"{router}/v1", api_key="client-key")
    answer = client.chat.completions.create(model="delayed", messages=[{"role": "user", "content": "Hi"}])
    seen = httpx.get(f"{delays}/seen", timeout=TIMEOUT).json()
    assert answer.choices[0].message.content == "I am testing and random sleep"
    assert answer.model == "delayed"
    assert (seen["calls"], seen["kinds"], seen["last"]["body"]["model"]) == (1, {"chat": 1}, "theirs")
    assert "client-key" not in json.dumps(seen)


def test_what_the_model_can_not_is_refused_with_the_reason(router: str):
    answer = httpx.post(f"{router}/v1/embeddings", json={"model": "delayed", "input": "Hi"}, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert "embeddings" in answer.json()["error"]["message"]


def test_the_report_is_one_page_that_needs_no_network(delays: str, tmp_path: Path):
    page = tmp_path / "report.html"
    assert tandem("bench", delays, "--requests", "4", "--concurrency", "4", "--html", page).returncode == 0
    text = page.read_text()
    assert "<svg" in text
    assert not any(word in text for word in ("<script", "src=", "href=", "@import", "url("))
