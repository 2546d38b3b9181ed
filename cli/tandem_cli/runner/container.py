"""The life of one container: start, probe, notice the end, wait, start again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from tandem_cli.runner.command import Command, Sandbox
from tandem_cli.runner.errors import PodConfigError
from tandem_cli.runner.probes import ask_once, verdicts
from tandem_cli.runner.process import Process, start_process
from tandem_cli.runner.state import ContainerState
from tandem_cli.runner.template import Container, Probe


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds between an end and the next start.

    `first`, doubled with each up to `limit`, and `first` again after a run of `reset`. The defaults are a kubelet's.
    """

    first: float = 10
    limit: float = 300
    reset: float = 600


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container has from its pod."""

    address: str
    folder: Path
    """Working folder where the container names none."""
    log: Path
    hold: int | None
    sandbox: Sandbox
    grace: float
    """Seconds from SIGTERM to SIGKILL."""
    hurry: asyncio.Event
    """Set: no grace any more."""
    eager: float
    """Seconds between two asks of a probe that has not succeeded yet."""
    backoff: Backoff


class ContainerRun:
    """Runs one container. Cancelling `live` ends it with its grace."""

    def __init__(
        self,
        container: Container,
        compose: Callable[[Container], Awaitable[Command]],
        surroundings: Surroundings,
        on_change: Callable[[], None],
    ) -> None:
        self._container = container
        self._compose = compose
        self._around = surroundings
        self._on_change = on_change
        self._process: Process | None = None
        self.state = ContainerState(container.name)

    @property
    def log(self) -> Path:
        """The output of all runs."""
        return self._around.log

    async def live(self, restart: Callable[[int], bool]) -> int:
        """Runs the container until an exit status for which `restart` says no; returns that status."""
        loop = asyncio.get_running_loop()
        backoff = self._around.backoff
        pause = backoff.first
        while True:
            begun = loop.time()
            try:
                code = await self._run(await self._compose(self._container))
            except PodConfigError as error:
                self._become(replace(self.state, phase="waiting", reason=error.reason, message=str(error)))
            else:
                if not restart(code):
                    return code
                if loop.time() - begun >= backoff.reset:
                    pause = backoff.first
                restarts = self.state.restarts + 1
                self._become(replace(self.state, phase="waiting", reason="CrashLoopBackOff", restarts=restarts))
            await asyncio.sleep(pause)
            pause = min(pause * 2, backoff.limit)

    def signal(self, number: int) -> None:
        """Sends a signal to the main process, if one runs."""
        if self._process is not None:
            self._process.signal(number)

    def _become(self, state: ContainerState) -> None:
        self.state = state
        self._on_change()

    async def _run(self, command: Command) -> int:
        """One run from start to end; cancelled, it ends the process with its grace."""
        async with self._start(command, self.log) as process:
            self._process = process
            started = self._container.startup_probe is None
            self._become(
                replace(
                    self.state,
                    phase="running",
                    reason="",
                    message="",
                    pid=process.pid,
                    started=started,
                    ready=started and self._container.readiness_probe is None,
                )
            )
            probing = asyncio.create_task(self._probe(process, command))
            ended = asyncio.create_task(process.wait())
            try:
                await asyncio.wait({probing, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done():
                    probing.result()
            finally:
                probing.cancel()
                ended.cancel()
                await asyncio.gather(probing, ended, return_exceptions=True)
                self._become(replace(self.state, ready=False))
                code = await process.end(self._around.grace, self._around.hurry)
                self._process = None
                reason = "Completed" if code == 0 else "Error"
                self._become(
                    replace(self.state, phase="terminated", reason=reason, pid=None, started=False, exit_code=code)
                )
        return code

    async def _probe(self, process: Process, command: Command) -> None:
        """Runs the container's probes; returns once startup or liveness has failed and the process has ended."""
        spec = self._container
        if spec.startup_probe is not None:
            async with aclosing(
                verdicts(spec.startup_probe, self._ask(spec.startup_probe, command), self._eager)
            ) as found:
                problem = await anext(found)
            if problem:
                await self._give_up(process, "startup", spec.startup_probe, problem)
                return
            self._become(replace(self.state, started=True, ready=spec.readiness_probe is None))
        async with asyncio.TaskGroup() as group:
            if spec.readiness_probe is not None:
                group.create_task(self._follow_readiness(spec.readiness_probe, command))
            if spec.liveness_probe is not None:
                group.create_task(self._follow_liveness(process, spec.liveness_probe, command))
        await process.wait()

    async def _follow_readiness(self, probe: Probe, command: Command) -> None:
        async for problem in verdicts(probe, self._ask(probe, command), self._eager):
            if self.state.ready == bool(problem):
                message = f"readiness probe failed: {problem}" if problem else ""
                self._become(replace(self.state, ready=not problem, message=message))

    async def _follow_liveness(self, process: Process, probe: Probe, command: Command) -> None:
        async for problem in verdicts(probe, self._ask(probe, command), self._eager):
            if problem:
                await self._give_up(process, "liveness", probe, problem)
                return

    async def _give_up(self, process: Process, kind: str, probe: Probe, problem: str) -> None:
        message = f"{kind} probe failed {probe.failure_threshold} times: {problem}"
        self._become(replace(self.state, ready=False, message=message))
        grace = probe.termination_grace_period_seconds
        await process.end(self._around.grace if grace is None else grace, self._around.hurry)

    @property
    def _eager(self) -> float:
        return self._around.eager

    def _ask(self, probe: Probe, command: Command) -> Callable[[], Awaitable[str]]:
        async def run_inside(argv: Sequence[str]) -> int:
            async with self._start(replace(command, argv=tuple(argv)), Path("/dev/null")) as process:
                return await process.wait()

        return lambda: ask_once(probe, self._around.address, self._container.ports, run_inside)

    def _start(self, command: Command, log: Path) -> AbstractAsyncContextManager[Process]:
        """Raises PodConfigError: the working folder is not there."""
        program = self._around.sandbox(command)
        cwd = program.cwd or self._around.folder
        if not cwd.is_dir():
            raise PodConfigError(f"container {self._container.name}: workingDir {cwd} is no folder of this machine")
        return start_process(program.argv, program.env, cwd, log, self._around.hold)
