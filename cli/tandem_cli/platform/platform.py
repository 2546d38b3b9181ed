"""The platform on one machine: every worker of a plan and a router, as processes that live and end together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeVar

from tandem_api.status import RouterStatus
from tandem_operator.planning import ServicePlan

from tandem_cli.platform.errors import PlatformError
from tandem_cli.platform.failing import explain, failed_container
from tandem_cli.platform.machine import make_node
from tandem_cli.platform.ports import router_port
from tandem_cli.platform.registry import (
    KEY_VARIABLE,
    REGISTRY,
    REGISTRY_PORT,
    URL_VARIABLE,
    registry_template,
    registry_url,
)
from tandem_cli.platform.routing import ROUTER, router_template, url_of, write_topology
from tandem_cli.platform.settings import PlatformSettings
from tandem_cli.platform.workers import Worker, make_workers
from tandem_cli.runner import Node, Pod, PodTemplate, Scratch, loopback_addresses, run_pod, scratch_folder
from tandem_cli.status import all_routable, fetch_status

_POLL = 0.05
"""Seconds between two looks at the router's status while it comes up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Files:
    state: Path

    @property
    def topology(self) -> Path:
        return self.state / "topology.json"

    @property
    def logs(self) -> Path:
        return self.state / "logs"


class Platform:
    """Processes that run until the block of `run_platform` ends."""

    def __init__(
        self,
        plans: Sequence[ServicePlan],
        workers: Sequence[Worker],
        settings: PlatformSettings,
        node: Node,
        files: _Files,
        port: int,
        created: int,
    ) -> None:
        self._plans = plans
        self._workers = {worker.name: worker for worker in workers}
        self._settings = settings
        self._node = node
        self._files = files
        self._created = created
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()
        self._seen_ready: set[str] = set()
        self._reachable: dict[str, str] | None = None
        self._begun, self._router_ends, self._workers_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._router = router_template(files.topology, settings.host, port, settings.grace, settings.door)
        self.url = url_of(settings.host, port)
        self.logs = files.logs
        self._watchers: set[Callable[[], None]] = set()
        self.pods: dict[str, Pod] = {}
        """By name, once they run: the workers', the router's and the registry's."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all pods that it takes to serve, the router first."""
        return (ROUTER, *self._workers)

    async def until_ready(self) -> RouterStatus:
        """Returns what the router says when it has a ready session to every worker.

        Raises:
            PlatformError: something can't start.
        """
        return await self.during(self._until_routable())

    async def during(self, work: Coroutine[None, None, T]) -> T:
        """Does the work while the platform runs; raises what makes the platform fail meanwhile."""
        working, failing = asyncio.create_task(work), asyncio.create_task(self._failed.wait())
        try:
            await asyncio.wait({working, failing}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            return await working
        finally:
            working.cancel()
            failing.cancel()
            await asyncio.gather(working, failing, return_exceptions=True)

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Calls `look` at each change of a pod for the length of the block, from within the loop; it must not block."""
        self._watchers.add(look)
        try:
            yield
        finally:
            self._watchers.remove(look)

    def kill(self) -> None:
        """Ends what still ends, at once."""
        for pod in self.pods.values():
            pod.kill()

    async def run(self, scratch: Scratch, random: Random) -> None:
        """Runs all pods; when cancelled, drains the router, then ends the workers."""
        self._publish()
        ports = {port for worker in self._workers.values() for port in worker.ports}
        addresses = loopback_addresses(random, sorted({*ports, REGISTRY_PORT}))
        pods = [(self._capped(worker.template), next(addresses)) for worker in self._workers.values()]
        if self._settings.registry:
            address = next(addresses)
            self._know_registry(registry_url(address))
            pods.append((registry_template(self._files.state, self._settings.door), address))
        router = asyncio.create_task(self._keep(self._router, "127.0.0.1", scratch, self._router_ends))
        workers = [
            asyncio.create_task(self._keep(template, address, scratch, self._workers_end)) for template, address in pods
        ]
        try:
            done, _ = await asyncio.wait({router, *workers}, return_when=asyncio.FIRST_EXCEPTION)
            self._fail(next(error for task in done if (error := task.exception()) is not None))
        finally:
            self._router_ends.set()
            await asyncio.wait({router})
            self._workers_end.set()
            await asyncio.gather(router, *workers)

    def _know_registry(self, url: str) -> None:
        """The router relays to it, and workers fetch from it, unless the user names another."""
        key = self._settings.door.key_file
        [container] = self._router.spec.containers
        args = (*container.args, "--registry-url", url, *(("--service-key-file", str(key)) if key else ()))
        container = container.model_copy(update={"args": args})
        spec = self._router.spec.model_copy(update={"containers": (container,)})
        self._router = self._router.model_copy(update={"spec": spec})
        known = {URL_VARIABLE: url, **({KEY_VARIABLE: str(key)} if key else {})}
        self._node = replace(self._node, environment={**known, **self._node.environment})

    async def _keep(self, template: PodTemplate, address: str, scratch: Scratch, end: asyncio.Event) -> None:
        async with run_pod(template, address=address, node=self._node, scratch=scratch, on_change=self._notice) as pod:
            self.pods[pod.name] = pod
            if all(name in self.pods for name in self.names):
                self._begun.set()
            await end.wait()

    def _capped(self, template: PodTemplate) -> PodTemplate:
        """Calls have ended with the router, so a worker needs no more grace than the router had."""
        grace = min(template.spec.termination_grace_period_seconds, self._settings.grace)
        return template.model_copy(
            update={"spec": template.spec.model_copy(update={"termination_grace_period_seconds": grace})}
        )

    def _notice(self, pod: Pod) -> None:
        """Follows a pod's state: tells the router of workers, and notices what can't start."""
        if pod.state.ready:
            self._seen_ready.add(pod.name)
        self._publish()
        for look in self._watchers:
            look()
        if pod.name in self._seen_ready or pod.name == REGISTRY or self._router_ends.is_set():
            return
        if pod.state.problem:
            self._fail(PlatformError(f"{pod.name} can't start: {pod.state.problem}"))
        elif (container := failed_container(pod.state)) is not None:
            self._fail(explain(pod, container))

    def _fail(self, error: BaseException) -> None:
        """The first failure counts: others follow from it."""
        if self._failure is None:
            self._failure = error
            self._failed.set()

    def _publish(self) -> None:
        """Writes the topology where it has changed: workers whose containers have started."""
        reachable = {
            name: pod.address
            for name, pod in self.pods.items()
            if name in self._workers and all(container.started for container in pod.state.containers)
        }
        if reachable != self._reachable:
            self._reachable = reachable
            workers = [(self._workers[name], address) for name, address in reachable.items()]
            write_topology(self._files.topology, self._plans, workers, self._created)

    async def _until_routable(self) -> RouterStatus:
        await self._begun.wait()
        for name in self.names:
            await self.pods[name].until(lambda state: state.ready)
        while True:
            status = await fetch_status(self.url, self._settings.door.key)
            if status is not None and all_routable(status, self._workers):
                return status
            await asyncio.sleep(_POLL)


@asynccontextmanager
async def run_platform(
    plans: Sequence[ServicePlan], settings: PlatformSettings, *, random: Random, created: int
) -> AsyncIterator[Platform]:
    """Starts the platform, and ends all of it when the block ends: the router drains, then the workers go.

    Args:
        plans: what to run.
        settings: how.
        random: draws loopback addresses.
        created: Unix seconds, for /v1/models.

    Raises:
        PlatformError: it can't begin; see `Platform.until_ready` for what fails later.
    """
    workers = make_workers(plans, gpus=settings.gpus)
    async with scratch_folder() as scratch:
        state = settings.state or scratch.folder
        files = _Files(state)
        try:
            await asyncio.to_thread(files.logs.mkdir, parents=True, exist_ok=True)
        except OSError as error:
            raise PlatformError(
                f"the folder {files.logs} can't be made: {error.strerror}", hint="name another one with --state-dir"
            ) from None
        node = make_node(plans, settings.environment, settings.cache, files.logs)
        with router_port(settings.host, settings.port) as port:
            platform = Platform(plans, workers, settings, node, files, port, created)
            running = asyncio.create_task(platform.run(scratch, random))
            try:
                yield platform
            finally:
                running.cancel()
                while not running.done():
                    try:
                        await asyncio.wait({running})
                    except asyncio.CancelledError:
                        platform.kill()
                if not running.cancelled():
                    running.result()
