"""Whether `tandem bench` and `vllm bench serve` say the same of the same server.

A router with one virtual engine, whose steps take the same time for both: one request at a time, and an open loop. In
a closed loop of several clients, milliseconds between an answer and the next request may decide which prompts wait for
each other: what a client is slow by comes back as what the server is.

The two take turns, and turns at being first; in a pair they send the very same prompts, each under a cache salt of its
own, so that neither finds what the other left in the prefix cache. A difference that points the same way in every pair
is one between the clients; with eight pairs, noise alone would do that to a figure once in 128 times.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from bench.processes import ROOT, Program, log_file, program
from tests.cli.command import tandem_up
from tests.tiny_model import make_tiny_model

PAIRS: Final = 8
WARM_UP: Final = 2
WORDS: Final = 100
TOKENS: Final = 64
MODEL: Final = "agreement"
LATENCIES: Final = ("ttft", "tpot", "itl", "e2el")
PERCENTILES: Final = ("p50", "p90", "p99")
SECONDS: Final = 300
TOKENIZER: Final = "tiny"


@dataclass(frozen=True, slots=True)
class Load:
    """How the server is asked."""

    name: str
    requests: int
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


LOADS: Final = (
    Load("one at a time", 12, ("--concurrency", "1"), ("--max-concurrency", "1")),
    Load("six a second, Poisson", 60, ("--rate", "6"), ("--request-rate", "6")),
)

Figures = Mapping[str, float]
"""By name; rates per second, latencies in milliseconds."""
Client = Callable[[str, Load, Path], Figures]

MANIFEST: Final[dict[str, Any]] = {
    "apiVersion": "tandem.dev/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": MODEL},
    "spec": {
        "versions": [{"name": "v1", "engine": {"type": "virtual", "virtual": {"decodeStepTime": "20ms"}}}],
        "decode": {"replicas": 1},
    },
}


def run() -> dict[str, Any]:
    """Measures in pairs, and prints a table for each load."""
    pairs: dict[str, list[tuple[Figures, Figures]]] = {load.name: [] for load in LOADS}
    busy = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "manifest.yaml").write_text(yaml.safe_dump(MANIFEST))
        make_tiny_model(folder / TOKENIZER)
        with tandem_up(folder, "-f", folder / "manifest.yaml") as up, program("bench.vllm_client") as peer:
            clients: list[Client] = [_tandem, partial(_vllm, peer=peer, tokenizer=folder / TOKENIZER)]
            for number in range(PAIRS):
                for load in LOADS:
                    prompts = _prompts(folder, f"{number}-{LOADS.index(load)}", load.requests)
                    order = (0, 1) if number % 2 == 0 else (1, 0)
                    found = {which: clients[which](up.url, load, prompts) for which in order}
                    pairs[load.name].append((found[0], found[1]))
                    busy.append(os.getloadavg()[0])
                print(f"pair {number + 1} of {PAIRS}, load {busy[-1]:.1f}", flush=True)
    for load in LOADS:
        print(f"\n{load.name}\n\n{table(pairs[load.name])}")
    print(f"\nload {min(busy):.1f} to {max(busy):.1f}")
    return {"load": busy, "pairs": pairs}


def table(pairs: list[tuple[Figures, Figures]]) -> str:
    """Medians with least and greatest of each client, and how the pairs differ."""
    rows = ["| | tandem bench | vllm bench serve | difference in a pair | |", "|---|---|---|---|---|"]
    for name in pairs[0][0]:
        ours, theirs = [pair[0][name] for pair in pairs], [pair[1][name] for pair in pairs]
        apart = [100 * (one / other - 1) for one, other in zip(ours, theirs, strict=True)]
        verdict = "noise" if min(apart) <= 0 <= max(apart) else "**one way**"
        shown = f"{statistics.median(apart):+.1f} % ({min(apart):+.1f} to {max(apart):+.1f})"
        rows.append(f"| {name} | {_spread(ours)} | {_spread(theirs)} | {shown} | {verdict} |")
    return "\n".join(rows)


def _spread(values: list[float]) -> str:
    digits = 2 if statistics.median(values) < 100 else 0
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _prompts(folder: Path, name: str, requests: int) -> Path:
    """Drawn words, no two prompts alike from the first word on."""
    draw = random.Random(name)
    words = ["sky", "river", "seven", "light", "paper", "under", "green", "table", "north", "music"]
    path = folder / f"prompts-{name}.jsonl"
    lines = [
        {"prompt": " ".join([f"{name}-{number}", *draw.choices(words, k=WORDS)]), "max_tokens": TOKENS}
        for number in range(requests + WARM_UP)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def _body(salt: str) -> str:
    return json.dumps({"ignore_eos": True, "temperature": 0, "cache_salt": salt})


def _tandem(url: str, load: Load, prompts: Path) -> Figures:
    asked = [*load.ours, "--requests", str(load.requests), "--warm-up", str(WARM_UP), "--seed", _seed(prompts)]
    command = [sys.executable, "-m", "tandem_cli", "bench", url, "--dataset", str(prompts), *asked]
    told = json.loads(_output([*command, "--body", _body(f"{prompts.stem} ours"), "-o", "json"]))["figures"]
    assert told["succeeded"] == load.requests, told["errors"]
    figures = {"requests/s": told["request_rate"], "output tokens/s": told["output_token_rate"]}
    for name in LATENCIES:
        of = told["e2e" if name == "e2el" else name]
        figures |= {f"{_title(name)} {at}, ms": 1000 * of[at] for at in ("mean", *PERCENTILES)}
    return figures


def _vllm(url: str, load: Load, prompts: Path, peer: Program, tokenizer: Path) -> Figures:
    arguments = ["--backend", "openai-chat", "--base-url", url, "--endpoint", "/v1/chat/completions"]
    arguments += ["--model", MODEL, "--disable-tqdm", *load.theirs, "--num-prompts", str(load.requests)]
    arguments += ["--tokenizer", str(tokenizer)]  # without one it computes no latencies
    arguments += ["--seed", _seed(prompts), "--num-warmups", str(WARM_UP), "--ready-check-timeout-sec", "0"]
    arguments += ["--extra-body", _body(f"{prompts.stem} theirs"), "--percentile-metrics", ",".join(LATENCIES)]
    arguments += ["--metric-percentiles", ",".join(at.removeprefix("p") for at in PERCENTILES)]
    # It warms up by its first prompt, over and over: the rest of them is measured, as many as by the other.
    measured = [json.loads(line) for line in prompts.read_text().splitlines()[WARM_UP:]]
    told = peer.ask({"prompts": measured, "arguments": arguments})
    assert told["completed"] == load.requests, told
    figures = {"requests/s": told["request_throughput"], "output tokens/s": told["output_throughput"]}
    for name in LATENCIES:
        figures |= {f"{_title(name)} {at}, ms": told[f"{at}_{name}_ms"] for at in ("mean", *PERCENTILES)}
    return figures


def _seed(prompts: Path) -> str:
    """Of the arrivals: others in each pair."""
    return str(zlib.crc32(prompts.stem.encode()))


def _title(name: str) -> str:
    return "end to end" if name == "e2el" else name.upper()


def _output(command: list[str]) -> str:
    with log_file("agreement").open("a") as log:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, check=False, timeout=SECONDS
        )
    if done.returncode:
        raise SystemExit(f"{command[2]} failed: {log_file('agreement')}")
    return done.stdout
