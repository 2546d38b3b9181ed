"""Runs a pod as processes of this machine: `async with run_pod(...) as pod`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Literal

from tandem_cli.runner.command import Command, Sandbox, compose, map_paths
from tandem_cli.runner.container import Backoff, ContainerRun, Surroundings
from tandem_cli.runner.errors import PodConfigError
from tandem_cli.runner.objects import FixedObjects, Objects
from tandem_cli.runner.scratch import Scratch
from tandem_cli.runner.state import PodState
from tandem_cli.runner.template import Container, PodTemplate
from tandem_cli.runner.volumes import VolumeMaker, make_volumes


@dataclass(frozen=True, slots=True)
class Node:
    """What pods find on this machine, the same for all of them."""

    environment: Mapping[str, str]
    """What an image would set: PATH at least."""
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Entrypoint by image, for containers without a `command`."""
    objects: Objects = field(default_factory=FixedObjects)
    volumes: VolumeMaker = make_volumes
    sandbox: Sandbox = map_paths
    backoff: Backoff = field(default_factory=Backoff)
    eager: float = 0.1
    """Seconds between two asks of a probe that has not succeeded yet."""
    logs: Path | None = None
    """Where logs go, as POD/CONTAINER.log; default: the pod's own folder, which goes with it."""


class Pod:
    """A pod that runs. Its `state` is a value that changes as a whole; `until` waits for one."""

    def __init__(
        self, template: PodTemplate, address: str, node: Node, scratch: Scratch, on_change: Callable[["Pod"], None]
    ) -> None:
        spec, name = template.spec, template.metadata.name
        self._template = template
        self._node = node
        self._on_change = on_change
        self._folder = scratch.folder / name
        self._volumes_folder = Path(mkdtemp(prefix="", dir=scratch.folder))
        self._logs = node.logs / name if node.logs is not None else self._folder / "logs"
        self._volumes: Mapping[str, Path] = {}
        self._changed = asyncio.Event()
        self._crash: Exception | None = None
        self._hurry = asyncio.Event()
        self._problem = ""
        self._phase: Literal["Pending", "Running", "Succeeded", "Failed"] = "Pending"

        def run(container: Container) -> ContainerRun:
            around = Surroundings(
                address=address,
                folder=self._folder,
                log=self._logs / f"{container.name}.log",
                hold=scratch.hold,
                sandbox=node.sandbox,
                grace=spec.termination_grace_period_seconds,
                hurry=self._hurry,
                eager=node.eager,
                backoff=node.backoff,
            )
            return ContainerRun(container, self._compose, around, self._update)

        self.name = name
        self.address = address
        self._inits = [run(container) for container in spec.init_containers]
        self.folders = (self._folder, self._volumes_folder)
        self._containers = [run(container) for container in spec.containers]
        self._initialized = not self._inits
        self.state = self._observe()

    def log(self, container: str) -> Path:
        """The file that holds a container's output. Raises `KeyError` for an unknown container."""
        return {run.state.name: run for run in (*self._inits, *self._containers)}[container].log

    def signal(self, number: int) -> None:
        """Sends a signal to the main process of every container."""
        for run in (*self._inits, *self._containers):
            run.signal(number)

    def kill(self) -> None:
        """Cuts the grace of an ending pod short."""
        self._hurry.set()

    async def until(self, condition: Callable[[PodState], bool]) -> PodState:
        """The first state that meets `condition`, the present one included; raises what ended `live` unexpectedly."""
        while not condition(self.state):
            if self._crash is not None:
                raise self._crash
            self._changed.clear()
            await self._changed.wait()
        return self.state

    async def live(self) -> None:
        """Runs the pod to its end; cancelled, ends it with its grace."""
        try:
            await self._live()
        except Exception as error:
            self._crash = error
            self._update()
            raise

    async def _live(self) -> None:
        for folder in (self._folder, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        await self._mount()
        policy = self._template.spec.restart_policy
        for run in self._inits:
            if await run.live(lambda code: code != 0 and policy != "Never"):
                self._finish("Failed")
                return
        self._initialized = True
        self._phase = "Running"
        async with asyncio.TaskGroup() as group:
            restart = {"Always": lambda code: True, "OnFailure": bool, "Never": lambda code: False}[policy]
            lives = [group.create_task(run.live(restart)) for run in self._containers]
        self._finish("Failed" if any(life.result() for life in lives) else "Succeeded")

    async def _mount(self) -> None:
        """Makes the volumes, and tries again where one names what is not there yet."""
        while True:
            try:
                self._volumes = await self._node.volumes(self._template.spec, self._volumes_folder, self._node.objects)
            except PodConfigError as error:
                self._problem = str(error)
                self._update()
                await asyncio.sleep(self._node.backoff.first)
            else:
                self._problem = ""
                return

    def _finish(self, phase: Literal["Succeeded", "Failed"]) -> None:
        self._phase = phase
        self._update()

    def _update(self) -> None:
        self.state = self._observe()
        self._changed.set()
        self._on_change(self)

    def _observe(self) -> PodState:
        containers = tuple(run.state for run in self._containers)
        return PodState(
            name=self.name,
            address=self.address,
            phase=self._phase,
            problem=self._problem,
            initialized=self._initialized,
            ready=self._initialized and all(container.ready for container in containers),
            init_containers=tuple(run.state for run in self._inits),
            containers=containers,
        )

    async def _compose(self, container: Container) -> Command:
        return await compose(
            container,
            metadata=self._template.metadata,
            address=self.address,
            environment=self._node.environment,
            objects=self._node.objects,
            volumes=self._volumes,
            images=self._node.images,
        )


@asynccontextmanager
async def run_pod(
    template: PodTemplate,
    *,
    address: str,
    node: Node,
    scratch: Scratch,
    on_change: Callable[[Pod], None] = lambda pod: None,
) -> AsyncIterator[Pod]:
    """Runs a pod for as long as the block lasts; then SIGTERM, its grace, SIGKILL, and its folder is gone.

    A second cancellation while it ends cuts the grace short, as `Pod.kill` does.

    Args:
        template: the pod; its name is the name of its folder too.
        address: its own IP address, on which its containers can listen.
        node: what it finds on this machine.
        scratch: where its folder is made.
        on_change: is called at every change of the pod's state, from within the event loop; must not block.
    """
    pod = Pod(template, address, node, scratch, on_change)
    life = asyncio.create_task(pod.live(), name=f"pod {pod.name}")
    try:
        yield pod
    finally:
        life.cancel()
        while not life.done():
            try:
                await asyncio.wait({life})
            except asyncio.CancelledError:
                pod.kill()
                await asyncio.wait({life})
                raise
        for folder in pod.folders:
            await asyncio.to_thread(rmtree, folder, ignore_errors=True)
        if not life.cancelled():
            life.result()
