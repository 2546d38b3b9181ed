"""One pod of the node: from being bound to it until it is gone from the API server."""

import asyncio
import datetime
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import tandem_cli.runner as runner
from tandem_cli.runner import Command, Program, Scratch

from tests.cluster.network import Network
from tests.cluster.node.api import Api, ApiError, Object
from tests.cluster.node.fields import for_runner
from tests.cluster.node.images import check_image
from tests.cluster.node.objects import NamespacedObjects
from tests.cluster.node.services import Services
from tests.cluster.node.status import StatusBook
from tests.cluster.node.volumes import PodVolumes
from tests.cluster.node.walls import Place, find_container, put_walls
from tests.cluster.node.wires import Wires

_LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Machine:
    """What all pods of a node share."""

    api: Api
    wires: Wires
    services: Services
    scratch: Scratch
    logs: Path
    environment: Mapping[str, str]
    backoff: runner.Backoff
    now: Callable[[], datetime.datetime]


class PodLife:
    """Runs one pod. `see` and `forget` tell it what the API server says; `live` returns when nothing is left of it."""

    def __init__(self, pod: Object, machine: Machine) -> None:
        metadata = pod["metadata"]
        self._pod = self._observed = pod
        self._machine = machine
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._changed = asyncio.Event()
        self._deleted = asyncio.Event()
        self.ended = False
        """None of its containers runs any more."""
        self._gone = False
        self._running: runner.Pod | None = None
        self._book: StatusBook | None = None
        self._written: Object = {}

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self._pod["metadata"]["namespace"], self._pod["metadata"]["name"]

    def see(self, pod: Object) -> None:
        """Takes note of the pod as the API server has it."""
        self._observed = pod
        if "deletionTimestamp" in pod["metadata"] and not self._deleted.is_set():
            self._deleted.set()
            asyncio.get_running_loop().call_later(pod["metadata"].get("deletionGracePeriodSeconds", 0), self.hurry)
        self._changed.set()

    def forget(self) -> None:
        """The pod is gone from the API server: nobody waits for its grace any more."""
        self._gone = True
        self._deleted.set()
        self.hurry()

    def hurry(self) -> None:
        """Cuts the pod's grace short."""
        if self._running is not None:
            self._running.kill()

    async def live(self) -> None:
        """Runs the pod to its end, or to its deletion, and takes it from the API server then."""
        self.see(self._pod)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report())
            try:
                await self._run()
            finally:
                self.ended = True
                self._changed.set()
        await self._deleted.wait()
        await self._remove()

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            network, address = await stack.enter_async_context(self._machine.wires.pod())
            objects = NamespacedObjects(self._machine.api, self._pod["metadata"]["namespace"])
            # By uid: pods of other namespaces, and one that follows this one, may have the same name.
            scratch = Scratch(self._machine.scratch.folder / self._pod["metadata"]["uid"], self._machine.scratch.hold)
            scratch.folder.mkdir()
            volumes = PodVolumes(self._pod, address, objects)
            stack.push_async_callback(volumes.clear)
            node = runner.Node(
                environment=self._machine.environment,
                objects=objects,
                volumes=volumes.make,
                sandbox=self._sandbox(network, scratch.folder),
                backoff=self._machine.backoff,
                logs=self._machine.logs / self._pod["metadata"]["namespace"],
            )
            template = for_runner(self._pod, address)
            running = runner.run_pod(template, address=address, node=node, scratch=scratch, on_change=self._on_change)
            pod = await stack.enter_async_context(running)
            self._running = pod
            finished = asyncio.create_task(pod.until(lambda state: state.phase in ("Succeeded", "Failed")))
            deleted = asyncio.create_task(self._deleted.wait())
            try:
                await asyncio.wait({finished, deleted}, return_when=asyncio.FIRST_COMPLETED)
                if finished.done():
                    finished.result()
            finally:
                finished.cancel()
                deleted.cancel()

    def _sandbox(self, network: Network, parent: Path) -> Callable[[Command], Program]:
        namespace = self._pod["metadata"]["namespace"]
        folder = parent / "root"
        folder.mkdir()
        place = Place(network.path, folder, self._machine.services.names(namespace))

        def sandbox(command: Command) -> Program:
            check_image(find_container(self._pod, command.container)["image"])
            return put_walls(self._pod, place, command)

        return sandbox

    def _on_change(self, pod: runner.Pod) -> None:
        now = _stamp(self._machine.now())
        if self._book is None:
            self._book = StatusBook(self._pod, pod.state, now)
        self._book.enter(pod.state, now, self._deleted.is_set())
        self._changed.set()

    async def _report(self) -> None:
        while self._changed.is_set() or not self.ended:
            await self._changed.wait()
            self._changed.clear()
            await self._push()

    async def _push(self) -> None:
        """Writes the status, unless it is what was written last."""
        if self._book is None or self._gone:
            return
        status = self._book.status(self._observed)
        if status == self._written:
            return
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        try:
            await self._machine.api.patch(f"{self._path}/status", body)
        except ApiError as error:
            if error.status in (404, 409):
                return
            _LOGGER.warning("%s", error)
            await asyncio.sleep(_RETRY_SECONDS)
            self._changed.set()
        else:
            self._written = status

    async def _remove(self) -> None:
        """Takes the pod from the API server: its last trace."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self._pod["metadata"]["uid"]},
        }
        while not self._gone:
            try:
                await self._machine.api.delete(self._path, options)
            except ApiError as error:
                if error.status in (404, 409):
                    return
                _LOGGER.warning("%s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def _stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
