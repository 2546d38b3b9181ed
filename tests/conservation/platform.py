"""A platform to storm at: real processes of router and workers on loopback, of which any may be killed.

What drives a storm needs `Platform` alone, so that other platforms (a cluster in the middle of a rollout) can be
stormed at in the same way.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp
from tandem_api.topology import Topology
from tandem_api.worker import WorkerConfig

from tests.conservation.counters import WorkerAddress
from tests.loopback import free_port

ROOT = Path(__file__).parents[2]
UNSENT = ("--max-unsent-bytes", "16384")
"""So that a client that does not read is cut off soon."""


class Platform(Protocol):
    """What can be stormed at."""

    @property
    def url(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def lease_ttl(self) -> float: ...

    @property
    def workers(self) -> list[WorkerAddress]: ...

    async def kill(self, worker: WorkerAddress) -> None:
        """Kills a worker without warning, and returns when it is back and the router uses it."""

    async def stop(self, worker: WorkerAddress, seconds: float) -> None:
        """Lets a worker stand still for that long; its connections stay."""


@dataclass(frozen=True)
class WorkerProgram:
    """A worker to start."""

    name: str
    host: str
    config: WorkerConfig
    model_dir: Path | None = None
    argv: Sequence[str] = ()
    """The program in place of `python -m tandem_<role>`: for planted faults."""


class LocalPlatform:
    """Router and workers as processes. Entering waits until all are ready."""

    def __init__(
        self,
        folder: Path,
        programs: Sequence[WorkerProgram],
        topology: Topology,
        *,
        router_argv: Sequence[str] = ("-m", "tandem_router"),
        start_seconds: float = 60,
    ) -> None:
        self._folder = folder
        self._programs = {program.name: program for program in programs}
        self._topology = topology
        self._router_argv = router_argv
        self._start_seconds = start_seconds
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._stack = AsyncExitStack()
        self.url = ""
        self.model = topology.services[0].model
        self.lease_ttl = programs[0].config.kv_transfer.lease_ttl
        self.workers = [
            WorkerAddress(p.name, p.config.role, f"{p.host}:{p.config.ports.grpc}") for p in self._programs.values()
        ]

    async def __aenter__(self) -> "LocalPlatform":
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._stack.push_async_callback(self._stop_all)
        try:
            for program in self._programs.values():
                await self._start_worker(program)
            await self._start_router()
            await self._until_all_ready()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def kill(self, worker: WorkerAddress) -> None:
        process = self._processes[worker.name]
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # Until the router has noticed, its word that all are ready is about the worker that is dead.
        await self._until(lambda ready: worker.name not in ready)
        await self._start_worker(self._programs[worker.name])
        await self._until_all_ready()

    async def stop(self, worker: WorkerAddress, seconds: float) -> None:
        process = self._processes[worker.name]
        os.killpg(process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.killpg(process.pid, signal.SIGCONT)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    async def _start_worker(self, program: WorkerProgram) -> None:
        config = self._folder / f"{program.name}.json"
        config.write_text(program.config.model_dump_json(by_alias=True))
        argv = [*(program.argv or ("-m", f"tandem_{program.config.role}")), "--config", str(config)]
        argv += ["--name", program.name, "--host", program.host]
        if program.model_dir is not None:
            argv += ["--model-dir", str(program.model_dir)]
        await self._spawn(program.name, argv)

    async def _start_router(self) -> None:
        file = self._folder / "topology.json"
        file.write_text(self._topology.model_dump_json(by_alias=True))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = ("--allow-no-auth", "--topology", str(file), "--port", str(port))
        await self._spawn("router", [*self._router_argv, *argv, *UNSENT])

    async def _spawn(self, name: str, argv: Sequence[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *argv,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _until_all_ready(self) -> None:
        await self._until(lambda ready: ready == self._programs.keys())

    async def _until(self, holds: Callable[[AbstractSet[str]], bool]) -> None:
        """Waits until something is true of the workers to which the router has a ready session."""
        end = time.monotonic() + self._start_seconds
        while not holds(ready := await self._ready()):
            gone = [name for name, process in self._processes.items() if process.returncode is not None]
            if time.monotonic() > end:
                which = gone[0] if gone else "router"
                raise TimeoutError(f"only {sorted(ready)} are ready; log of {which}:\n{self.log(which)[-3000:]}")
            await asyncio.sleep(0.05)

    async def _ready(self) -> AbstractSet[str]:
        try:
            async with self._session.get(self.url + "/tandem/v1/status") as response:
                status = json.loads(await response.read())
        except aiohttp.ClientError:
            return set()
        workers = (w for s in status["services"] for v in s["versions"] for w in v["workers"])
        return {worker["name"] for worker in workers if worker["ready"] and worker["connected"]}

    async def _stop_all(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            await process.wait()
