"""The routers' own view, asked of each of them: who is connected to whom, and on which status each acts.

Every router is asked each second, and five times as often while a service waits for what it says. Which pods are
routers is asked as often: the operator may see no other objects of their namespace, so kopf does not watch it.

One answer that does not come in time says nothing of a router: it may be the operator itself that was held up. A router
is silent once it has not answered twice in a row.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
from pydantic import ValidationError
from tandem_api.experiments import ExperimentReport
from tandem_api.status import RouterStatus, ServiceStatus

from tandem_operator.cluster import POD, ApiError, Cluster
from tandem_operator.metrics import Metrics
from tandem_operator.planning.observed import RouterView
from tandem_operator.settings import RouterSettings
from tandem_operator.store import Key

CALM_SECONDS: Final = 1.0
BUSY_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 2.0
AT_ONCE: Final = 16
"""Routers that are asked at the same time."""
REMEMBERED_SECONDS: Final = 60.0
"""How long what a router counted of an experiment is told after the router has gone, or started again: far longer than
it takes to be written down."""

_STATUS: Final = "/tandem/v1/status"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RouterPod:
    """A router's pod, as Kubernetes tells of it."""

    name: str
    address: str
    """Empty before it has one."""
    ready: bool


class RouterPoller:
    """Keeps what the routers say; `run` asks them."""

    def __init__(
        self,
        cluster: Cluster,
        http: httpx.AsyncClient,
        settings: RouterSettings,
        metrics: Metrics,
        concerned: Callable[[Iterable[Key] | None], None],
        clock: Callable[[], float],
    ) -> None:
        """Takes what it works with.

        Args:
            cluster: Tells which pods are routers.
            http: For the routers.
            settings: Which pods they are, and their port.
            metrics: Counts the questions.
            concerned: Told which services have to be looked at; None: all of them.
            clock: Unix seconds.
        """
        self._cluster = cluster
        self._http = http
        self._settings = settings
        self._metrics = metrics
        self._concerned = concerned
        self._clock = clock
        self._views: dict[str, RouterView] = {}
        self._unanswered: set[str] = set()
        """Routers that did not answer the last question."""
        self._reports: dict[tuple[Key, str, str], tuple[ExperimentReport, float]] = {}
        """By service, experiment and who counted; when it was last heard."""
        self._waiting: set[Key] = set()
        self._hurry = asyncio.Event()

    def views(self) -> tuple[RouterView, ...]:
        """Of every router, by name."""
        return tuple(self._views[name] for name in sorted(self._views))

    def reports(self, key: Key) -> tuple[ExperimentReport, ...]:
        """What routers count of a service's experiments, those that are gone for a moment included."""
        return tuple(report for (service, _, _), (report, _) in self._reports.items() if service == key)

    def awaited(self, key: Key, waits: bool) -> None:
        """Asks often as long as any service waits for what the routers say."""
        if waits:
            self._waiting.add(key)
            self._hurry.set()
        else:
            self._waiting.discard(key)
            if not self._waiting:
                self._hurry.clear()

    async def run(self) -> None:
        """Asks until it is cancelled."""
        pods: tuple[RouterPod, ...] = ()
        listed = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if began - listed >= CALM_SECONDS:
                pods = await self._pods(pods)
                listed = began
            await self._ask_all(pods)
            await self._pause(began)

    async def _pause(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(began + CALM_SECONDS):
                await self._hurry.wait()
                await asyncio.sleep(began + BUSY_SECONDS - loop.time())
        except TimeoutError:
            pass

    async def _pods(self, known: tuple[RouterPod, ...]) -> tuple[RouterPod, ...]:
        selector = ",".join(f"{name}={value}" for name, value in sorted(self._settings.selector.items()))
        try:
            listed = await self._cluster.list(POD, self._settings.namespace, selector)
        except ApiError as error:
            _log.warning("can't ask which pods are routers", extra={"error": str(error)})
            return known
        return tuple(pod for item in listed["items"] if (pod := router_pod(item)) is not None)

    async def _ask_all(self, pods: tuple[RouterPod, ...]) -> None:
        for name in self._views.keys() - {pod.name for pod in pods}:
            del self._views[name]
            self._unanswered.discard(name)
            self._concerned(None)
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(pod: RouterPod) -> None:
            async with places:
                self._take(pod, await self._ask(pod))

        async with asyncio.TaskGroup() as group:
            for pod in pods:
                group.create_task(ask(pod))

    async def _ask(self, pod: RouterPod) -> RouterStatus | None:
        if not pod.address:
            return None
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        result = "failed"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._http.get(f"http://{host}:{self._settings.port}{_STATUS}")
            if answer.status_code == 200:
                status = RouterStatus.model_validate_json(answer.content, extra="ignore")
                result = "answered"
                return status
        except (httpx.HTTPError, TimeoutError, ValidationError) as error:
            _log.debug("a router does not answer", extra={"router": pod.name, "error": repr(error)})
        finally:
            self._metrics.polls.labels(result).inc()
        return None

    def _take(self, pod: RouterPod, status: RouterStatus | None) -> None:
        before = self._views.get(pod.name)
        if status is not None:
            self._remember(status)
            self._unanswered.discard(pod.name)
            view = RouterView(name=pod.name, pod_ready=pod.ready, status=status)
        elif before is None:
            view = RouterView(name=pod.name, pod_ready=pod.ready, silent_since=self._clock())
        elif before.answered and pod.name not in self._unanswered:
            self._unanswered.add(pod.name)
            view = replace(before, pod_ready=pod.ready)
        else:
            view = replace(before, pod_ready=pod.ready, silent_since=before.silent_since or self._clock())
        self._views[pod.name] = view
        if before is None or _alone(before) != _alone(view):
            self._concerned(None)
        elif changed := changes(before.status, view.status):
            self._concerned(changed)

    def _remember(self, status: RouterStatus) -> None:
        now = self._clock()
        self._reports = {place: heard for place, heard in self._reports.items() if heard[1] > now - REMEMBERED_SECONDS}
        for service in status.services:
            for report in service.experiments:
                self._reports[(service.namespace, service.name), report.id, report.incarnation] = report, now


def router_pod(obj: Mapping[str, Any]) -> RouterPod | None:
    """A router by its pod; None for one that has ended."""
    status = obj.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    return RouterPod(obj["metadata"]["name"], status.get("podIP") or "", ready)


def changes(before: RouterStatus | None, after: RouterStatus | None) -> set[Key]:
    """The services of which a router says something else than before, in what anyone decides on."""
    one, other = _decisive(before), _decisive(after)
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def _alone(view: RouterView) -> tuple[object, ...]:
    """What concerns all services."""
    return view.pod_ready, view.silent_since is None, view.status is not None and view.status.ready


def _decisive(status: RouterStatus | None) -> dict[Key, object]:
    return {(service.namespace, service.name): _facts(service) for service in status.services} if status else {}


def _facts(service: ServiceStatus) -> object:
    """All but counters and load, which change with every request; an experiment's counts decide."""
    return (
        service.observed,
        service.experiments,
        tuple(
            (
                version.name,
                version.weight,
                version.effective_weight,
                version.held,
                version.revisions,
                tuple((one.name, one.revision, one.connected, one.ready, one.draining) for one in version.workers),
            )
            for version in service.versions
        ),
    )
