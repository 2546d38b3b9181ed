"""What a router costs: CPU for each streamed chunk and each request, and the TTFT it adds, ours beside vllm-router.

Both get the same client, the same paces and the same first-token delay; ours relays from virtual decode workers over
gRPC, vllm-router from an HTTP upstream that steps as they do. Only the router's CPU counts. A run in which more than
1 % of the chunks left their source over 5 ms late says nothing about the router and is void.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import ROOT, Program, Server, free_port, load, log_file, program, server

VLLM_ROUTER = "vllm-router==0.1.17"
TOKENS = 64
WARM_UP = 32
"""Streams before the first measurement: connections, caches and first-time costs."""
VOID_SHARE = 0.01
TRIES = 3
"""Of a row whose runs are void: other programs of the machine make sources late."""

Side = Callable[[int, float], AbstractContextManager[tuple[Program, Server]]]
"""Starts sources and a router: workers and step in, the programs out."""


@dataclass(frozen=True)
class Row:
    """One scenario: `streams` at once over `workers`, a chunk each `step` seconds, `rounds` streams per connection."""

    streams: int
    workers: int
    step: float
    rounds: int
    aim: float | None = None
    """What our CPU per chunk may be of vllm-router's; None: printed, not aimed at."""


ROWS = (
    Row(64, 1, 0.02, 8, 0.6),
    Row(64, 4, 0.02, 8, 1.0),
    Row(64, 16, 0.02, 8),
    Row(64, 64, 0.02, 8),  # one event a frame
    Row(256, 1, 0.02, 6, 0.5),
    Row(256, 4, 0.02, 6, 1.0),
    Row(256, 16, 0.02, 6, 1.0),
    Row(1024, 1, 0.2, 1),
    Row(1024, 4, 0.2, 1),
    Row(1024, 16, 0.2, 1),
)


@dataclass(frozen=True)
class Cost:
    """What one router took for one row. Times in seconds."""

    cpu_per_chunk: float
    ttft: dict[int, float]
    """By percentile."""
    source_ttft: list[float]
    late: float
    events_per_frame: float

    def added(self, quantile: int) -> float:
        """TTFT at the client less TTFT at the source, at this percentile."""
        return self.ttft[quantile] - percentile(self.source_ttft, quantile)


def percentile(values: list[float], quantile: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[quantile - 1]


def vllm_router() -> Path:
    """The peer's program, in a venv of its own that is made once."""
    venv = ROOT / "build" / "vllm-router"
    program_path = venv / "bin" / "vllm-router"
    if not program_path.exists():
        print(f"installing {VLLM_ROUTER} into {venv.relative_to(ROOT)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", VLLM_ROUTER], check=True)
    return program_path


@contextmanager
def peer(workers: int, step: float) -> Iterator[tuple[Program, Server]]:
    """vllm-router before paced HTTP upstreams."""
    with program("bench.upstream", "--servers", str(workers), "--step", str(step)) as source:
        port = free_port()
        urls = [f"http://127.0.0.1:{p}" for p in source.ready["ports"]]
        argv = [str(vllm_router()), "--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
        argv += ["--prometheus-port", str(free_port()), "--max-concurrent-requests", "8192", "--worker-urls", *urls]
        with server(argv, port, "/health", log_file("vllm-router")) as router:
            yield source, router


@contextmanager
def ours(workers: int, step: float, *options: str) -> Iterator[tuple[Program, Server]]:
    """Our router before virtual decode workers; without `options` it asks for no key."""
    with (
        tempfile.TemporaryDirectory() as folder,
        program("bench.workers", "--workers", str(workers), "--step", str(step)) as source,
    ):
        topology = Path(folder, "topology.json")
        topology.write_text(json.dumps(source.ready["topology"]))
        port = free_port()
        argv = [sys.executable, "-m", "tandem_router", "--topology", str(topology), "--port", str(port)]
        argv += options or ["--allow-no-auth"]
        with server(argv, port, "/readyz", log_file("tandem-router")) as router:
            yield source, router


def measure(source: Program, router: Server, row: Row) -> Cost:
    load(router.port, WARM_UP, 1, 8)
    before = source.ask()
    cpu = router.cpu_seconds()
    seen = load(router.port, row.streams, row.rounds, TOKENS)
    cpu = router.cpu_seconds() - cpu
    after = source.ask()
    asked = row.streams * row.rounds
    if seen.failures or seen.requests != asked:
        raise SystemExit(f"{seen.failures} of {asked} streams failed")
    chunks = after["chunks"] - before["chunks"]
    frames = after.get("frames", 0) - before.get("frames", 0)
    return Cost(
        cpu_per_chunk=cpu / chunks,
        ttft=seen.ttft,
        source_ttft=after["ttft"],
        late=(after["late"] - before["late"]) / chunks,
        events_per_frame=(after.get("events", 0) - before.get("events", 0)) / frames if frames else 1.0,
    )


def requests(router: Server, connections: int, rounds: int) -> float:
    """CPU seconds for each non-stream request of one token."""
    load(router.port, connections, 2, 1, stream=False)
    cpu = router.cpu_seconds()
    seen = load(router.port, connections, rounds, 1, stream=False)
    if seen.failures:
        raise SystemExit(f"{seen.failures} requests failed")
    return (router.cpu_seconds() - cpu) / (connections * rounds)


def run() -> list[dict[str, Any]]:
    """All rows, printed as they come; returns them as plain values."""
    print("streams workers  step  events/frame   ours µs  vllm-router µs  ratio  aim    TTFT added ms p50/p99 (peer)")
    rows = []
    for row in ROWS:
        for _ in range(TRIES):
            rows.append(print_row(row, *(compare(side, row) for side in (ours, peer))))
            if not rows[-1]["void"]:
                break
    few, many = (next(r["ours"] for r in rows if (r["streams"], r["workers"]) == (n, 1)) for n in (64, 1024))
    print(f"a chunk at 1,024 streams is {many / few:.2f} of one at 64 (aim 1.1)")
    mine, theirs = (cost_of_requests(side) for side in (ours, peer))
    ratio = mine / theirs
    print(
        f"non-stream request, c=32: ours {mine * 1e6:.0f} µs, vllm-router {theirs * 1e6:.0f} µs, {ratio:.2f} (aim 1.5)"
    )
    return [*rows, {"request": mine, "peer": theirs}]


def compare(side: Side, row: Row) -> Cost:
    with side(row.workers, row.step) as (source, router):
        return measure(source, router, row)


def cost_of_requests(side: Side) -> float:
    with side(1, 0.001) as (_, router):
        return requests(router, 32, 100)


def print_row(row: Row, mine: Cost, theirs: Cost) -> dict[str, Any]:
    void = max(mine.late, theirs.late) > VOID_SHARE
    ratio = mine.cpu_per_chunk / theirs.cpu_per_chunk
    cost = f"{mine.events_per_frame:13.1f} {mine.cpu_per_chunk * 1e6:9.1f} {theirs.cpu_per_chunk * 1e6:15.1f}"
    added, peer_added = (f"{c.added(50) * 1e3:.1f}/{c.added(99) * 1e3:.1f}" for c in (mine, theirs))
    note = f"   VOID: {mine.late:.1%} and {theirs.late:.1%} late" if void else ""
    pace = f"{row.streams:7} {row.workers:7} {row.step:5.2f}"
    print(f"{pace} {cost} {ratio:6.2f} {row.aim or '-':>4}    {added} ({peer_added}){note}", flush=True)
    return {**vars(row), "ours": mine.cpu_per_chunk, "peer": theirs.cpu_per_chunk, "ratio": ratio, "void": void}


def memory(total: int = 100_000) -> list[int]:
    """Resident memory of our router, printed at the start and after each tenth of `total` requests."""
    print("resident MiB at the start and after each tenth of", total, "requests:", end="", flush=True)
    sizes: list[int] = []
    with ours(1, 0) as (_, router):
        for tenth in range(11):
            load(router.port, 64, total // 640 if tenth else 16, 1, stream=False)
            sizes.append(router.resident_bytes())
            print(f" {sizes[-1] / 2**20:.1f}", end="", flush=True)
    print()
    return sizes
