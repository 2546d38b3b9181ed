"""Real programs on loopback: a router, and workers with virtual engines."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from tandem_api.inference_service import EngineSpec, KvTransferSpec, RoutingSpec, VirtualEngineSpec
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes, WorkerEndpoint
from tandem_api.worker import WorkerConfig

from tests.loopback import free_host

ENGINE = VirtualEngineSpec(decode_step_time=0.005, prefill_token_time=1e-5, seed=3)
TOPOLOGY = "topology.json"
SECONDS = 120
"""Programs start slowly where others do so, too."""
MESSAGES = [{"role": "user", "content": "Why is the sky blue? " * 20}]


@contextmanager
def program(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-m", *argv]) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass
class Platform:
    url: str
    http: httpx.Client
    programs: dict[str, "subprocess.Popen[bytes]"]

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="local", max_retries=0)

    def workers(self) -> dict[str, dict[str, Any]]:
        services = self.http.get("/tandem/v1/status").json()["services"]
        return {w["name"]: w for s in services for v in s["versions"] for w in v["workers"]}

    def until(self, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> None:
        """Waits until the workers are as wanted."""
        end = time.monotonic() + SECONDS
        while not holds(workers := self.workers()):
            assert time.monotonic() < end, workers
            time.sleep(0.01)

    def kill(self, name: str) -> None:
        self.programs[name].send_signal(signal.SIGKILL)
        self.programs[name].wait(60)

    def until_at_rest(self) -> None:
        """Nothing is held, by the router or by any worker that lives."""

        def at_rest(workers: dict[str, dict[str, Any]]) -> bool:
            held = ("leases", "openCalls", "stagedBytes", "kvUse")
            text = self.http.get("/metrics").text.splitlines()
            router = {"tandem_router_placed 0.0", "tandem_router_leases 0.0", "active_requests 1.0"} <= set(text)
            return router and not any(w[what] for w in workers.values() for what in held)

        self.until(at_rest)

    def until_ready(self, *names: str) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                if {n for n, w in self.workers().items() if w["ready"]} == set(names):
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after {SECONDS} s: {self.workers()}")


@contextmanager
def platform(
    folder: Path,
    *names: str,
    ready: bool = True,
    worker_options: Sequence[str] = (),
    router_options: Sequence[str] = (),
    **slow: dict[str, float],
) -> Iterator[Platform]:
    """Workers are named for their role: prefill-0, decode-0, decode-1.

    Args:
        folder: For its files.
        names: The workers'.
        ready: Whether the router is to be able to use them all; if not, it need only answer.
        worker_options: Of each worker's command line.
        router_options: Of the router's.
        slow: Times of a role's engines (decode=...), or of one worker's (decode_0=...).
    """
    with ExitStack() as stack:
        endpoints, programs = [], {}
        for name in names:
            role = name.split("-", 1)[0]
            times = slow.get(name.replace("-", "_"), slow.get(role, {}))
            host = free_host()
            config = WorkerConfig.model_validate(
                {
                    "role": role,
                    "service": "default/sky",
                    "model": "sky",
                    "version": "v1",
                    "revision": "r1",
                    "engine": EngineSpec(type="virtual", virtual=ENGINE.model_copy(update=times)),
                    "kv_transfer": KvTransferSpec(lease_ttl=30),
                }
            )
            path = folder / f"{name}.json"
            path.write_text(config.model_dump_json(by_alias=True))
            worker = program(f"tandem_{role}", "--config", str(path), "--name", name, "--host", host, *worker_options)
            programs[name] = stack.enter_context(worker)
            address = f"{host}:{config.ports.grpc}"
            endpoints.append(WorkerEndpoint.model_validate({"name": name, "role": role, "address": address}))
        revision = RevisionEndpoints(name="r1", disaggregated=True, workers=tuple(endpoints))
        service = ServiceRoutes(
            name="sky",
            namespace="default",
            model="sky",
            routing=RoutingSpec(),
            versions=(VersionRoutes(name="v1", weight=100, revisions=(revision,)),),
        )
        (folder / TOPOLOGY).write_text(Topology(services=(service,)).model_dump_json())
        here = stack.enter_context(router(folder, *router_options))
        here.programs |= programs
        here.until_ready(*(names if ready else ()))
        yield here


@contextmanager
def router(folder: Path, *options: str) -> Iterator[Platform]:
    """A router before the workers of the platform in `folder`: its own, or another one."""
    host = free_host()
    argv = ("--allow-no-auth", "--topology", str(folder / TOPOLOGY), "--host", host, "--server-timing")
    url = f"http://{host}:8080"
    with program("tandem_router", *argv, *options) as process, httpx.Client(base_url=url, timeout=60) as http:
        yield Platform(url, http, {"router": process})
