"""TTFT of a disaggregated pair against one aggregated engine: real vLLM on the CPU, the same model, one at a time.

What disaggregation may add is one decode step (the prompt's last token is computed again) and the transfer's bytes. The
aim: 1.15 of the aggregated TTFT, plus these two.
"""

import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from bench.processes import ROOT, free_port, log_file

PROMPT_TOKENS = (100, 500, 1000)
REQUESTS = 9
STEPS = 8
"""Tokens of an answer: the gaps between them give a decode step's time."""
FACTOR = 1.15
MANIFEST = Path(__file__).with_name("ttft.yaml")
WORDS = ("river", "stone", "winter", "garden", "music", "paper", "window", "silver", "morning", "forest")


@dataclass(frozen=True)
class First:
    """One request. Times in seconds."""

    ttft: float
    step: float
    transfer: float
    prompt_tokens: int


@contextmanager
def platform() -> Iterator[str]:
    """`tandem up` with both services; yields the router's URL."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "tandem_cli", "up", "-f", str(MANIFEST), "--port", url.rpartition(":")[2]]
    with log_file("tandem-up").open("w") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(process, url)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end and process.poll() is None:
        try:
            status = httpx.get(f"{url}/tandem/v1/status", timeout=5).json()
        except httpx.HTTPError:
            status = {"services": []}
        workers = [w for s in status["services"] for v in s["versions"] for w in v["workers"]]
        if len(workers) == 3 and all(worker["ready"] for worker in workers):
            return
        time.sleep(1)
    raise SystemExit(f"the platform did not start; its log: {log_file('tandem-up')}")


def ask(client: httpx.Client, url: str, model: str, words: int, rng: random.Random) -> First:
    body = {
        "model": model,
        "prompt": " ".join(rng.choices(WORDS, k=words)),
        "max_tokens": STEPS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begin = time.perf_counter()
    moments, tokens = [], 0
    with client.stream("POST", f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                moments.append(time.perf_counter())
                tokens = (json.loads(line[6:]).get("usage") or {}).get("prompt_tokens", tokens)
        timing = response.headers.get("server-timing", "")
    transfer = re.search(r"kv;dur=([\d.]+);desc=\"transferred", timing)
    if model == "pair" and not transfer:
        raise SystemExit(f"no KV was transferred: {timing!r}")
    gaps = [b - a for a, b in pairwise(moments[:STEPS])]
    return First(moments[0] - begin, statistics.median(gaps), float(transfer[1]) / 1e3 if transfer else 0.0, tokens)


def run() -> list[dict[str, float]]:
    """Prints a row for each prompt length."""
    rows = []
    with platform() as url, httpx.Client(timeout=120) as client:
        rng = random.Random(0)
        for model in ("single", "pair"):
            ask(client, url, model, 50, rng)
        print("prompt tokens  aggregated ms  pair ms  transfer ms  step ms  allowed ms")
        for words in PROMPT_TOKENS:
            singles, pairs = [], []
            for _ in range(REQUESTS):
                singles.append(ask(client, url, "single", words, rng))
                pairs.append(ask(client, url, "pair", words, rng))
            rows.append(print_row(singles, pairs))
    return rows


def print_row(singles: list[First], pairs: list[First]) -> dict[str, float]:
    single = statistics.median(first.ttft for first in singles)
    pair = statistics.median(first.ttft for first in pairs)
    transfer = statistics.median(first.transfer for first in pairs)
    step = statistics.median(first.step for first in singles)
    allowed = FACTOR * single + step + transfer
    cells = (single, pair, transfer, step, allowed)
    print(f"{pairs[0].prompt_tokens:13} " + " ".join(f"{cell * 1e3:12.0f}" for cell in cells), flush=True)
    return {"tokens": pairs[0].prompt_tokens, "single": single, "pair": pair, "allowed": allowed}


if __name__ == "__main__":
    run()
