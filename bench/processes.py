"""Programs that a measurement starts: their first line, their answers, and what they cost."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parent.parent
KEY = "a-key-of-the-measurement"
"""Every request shows it, whether it is asked for or not."""


class Program:
    """A process that speaks JSON lines: one when it is ready, one for each line it is sent."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self._read()

    def ask(self, what: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(f"{json.dumps(what) if what else ''}\n")
        self._process.stdin.flush()
        return self._read()

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a program of the measurement ended before it answered; its error stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def program(module: str, *args: str) -> Iterator[Program]:
    """`python -m module args`, ended at the end."""
    running = Program([sys.executable, "-m", module, *args])
    try:
        yield running
    finally:
        running.stop()


class Server:
    """A router under measurement: its CPU and memory, over all of its processes."""

    def __init__(self, argv: Sequence[str], port: int, log: Path) -> None:
        self.port = port
        self._log = log.open("w")
        self._process = psutil.Popen(argv, cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT)

    def wait_until_ready(self, path: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=1).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"the router did not become ready; its log: {self._log.name}")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return sum(p.cpu_times().user + p.cpu_times().system for p in self._all())

    def resident_bytes(self) -> int:
        return sum(p.memory_info().rss for p in self._all())

    def stop(self) -> None:
        if self._process.is_running():
            for process in reversed(self._all()):
                process.terminate()
        try:
            self._process.wait(10)
        except psutil.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


@contextmanager
def server(argv: Sequence[str], port: int, path: str, log: Path) -> Iterator[Server]:
    """A router that answers `path` with 200, ended at the end."""
    running = Server(argv, port, log)
    try:
        running.wait_until_ready(path)
        yield running
    finally:
        running.stop()


@dataclass(frozen=True, slots=True)
class Load:
    """What a client saw. Times in seconds, percentiles by their number."""

    ttft: dict[int, float]
    """Of streams."""
    requests: int
    failures: int


def load(port: int, connections: int, rounds: int, tokens: int, *, stream: bool = True) -> Load:
    """Runs `tandem bench`, a program of its own, whose connections begin within a second."""
    asked = ["--api", "chat", "--model", "bench", "--concurrency", str(connections), "--ramp-up", "1"]
    asked += ["--requests", str(connections * rounds), "--input-tokens", "16", "--output-tokens", str(tokens)]
    asked += ["--body", '{"ignore_eos": true}', "--stream" if stream else "--no-stream", "-o", "json"]
    argv = [sys.executable, "-m", "tandem_cli", "bench", f"http://127.0.0.1:{port}", *asked]
    shown = {**os.environ, "TANDEM_API_KEY": KEY}
    done = subprocess.run(argv, cwd=ROOT, env=shown, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)["figures"]
    ttft = {quantile: found["ttft"][f"p{quantile}"] for quantile in (50, 99)} if stream else {}
    return Load(ttft, found["requests"], found["requests"] - found["succeeded"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def log_file(name: str) -> Path:
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"
