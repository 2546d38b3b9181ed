"""One look at one service: observe, plan, execute, report. Whatever leads to it, the same state gives the same plan."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import ValidationError
from tandem_api.experiments import ExperimentReport
from tandem_api.inference_service import InferenceService

from tandem_operator.cluster import Conflict, Ending, NotFound, Refused
from tandem_operator.executing import Executor
from tandem_operator.metrics import Metrics
from tandem_operator.observing import observe
from tandem_operator.planning.actions import Event, Plan, Resolve
from tandem_operator.planning.experiments.progress import Recorded
from tandem_operator.planning.experiments.record import Record
from tandem_operator.planning.observed import Observed, Resolution, RouterView
from tandem_operator.reporting import Events, StatusWriter, refusal, with_condition
from tandem_operator.store import Key, Store
from tandem_operator.views import Json, ServiceView

REFUSED_AGAIN_SECONDS: Final = 60.0
"""After which a write that was refused is tried again, where nothing else leads to it."""

_log = logging.getLogger(__name__)


class Planner(Protocol):
    """`tandem_operator.planning.plan` with its installation."""

    def __call__(self, resource: InferenceService, observed: Observed, now: float) -> Plan: ...


class Routers(Protocol):
    """What the routers say."""

    def views(self) -> tuple[RouterView, ...]: ...

    def reports(self, key: Key) -> tuple[ExperimentReport, ...]:
        """What they count of a service's experiments."""

    def awaited(self, key: Key, waits: bool) -> None:
        """Whether a service waits for what they say."""


class Sources(Protocol):
    """What moving sources stand for."""

    def known(self, namespace: str) -> dict[str, Resolution]: ...

    def resolve(self, key: Key, wanted: Resolve) -> None:
        """Finds it out, and has the service looked at afterwards."""


class Following(Protocol):
    """What sources of the registry stand for, and which of its versions are in use."""

    def known(self) -> Mapping[str, Resolution]: ...

    def want(self, key: Key, uid: str, sources: Iterable[str], uses: Iterable[str]) -> None:
        """Follows these from now on, has the service looked at when one changes, and keeps those in use."""

    def forget(self, key: Key) -> None:
        """The service is no more."""


class Outcomes(Protocol):
    """How experiments ended, where somebody remembers that."""

    def known(self) -> Mapping[str, Recorded]: ...

    def inquire(self, key: Key, id: str) -> None:
        """Asks, and has the service looked at afterwards."""

    def tell(self, key: Key, record: Record) -> None:
        """Tells of an end until it is kept, and has the service looked at afterwards."""


@dataclass(frozen=True, slots=True)
class Result:
    """What follows from a look."""

    wrote: bool = False
    """Something was written: look again."""
    outdated: bool = False
    """What was seen was not so any more: look again, when it may be seen."""
    again_after: float | None = None
    gone: bool = False
    """There is no such service any more."""


class Reconciler:
    """Looks at services. What it needs of the world is handed in."""

    def __init__(
        self,
        store: Store,
        planner: Planner,
        executor: Executor,
        statuses: StatusWriter,
        events: Events,
        routers: Routers,
        sources: Sources,
        following: Following,
        outcomes: Outcomes,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        timestamp: Callable[[], str],
    ) -> None:
        self._store = store
        self._planner = planner
        self._executor = executor
        self._statuses = statuses
        self._events = events
        self._routers = routers
        self._sources = sources
        self._following = following
        self._outcomes = outcomes
        self._metrics = metrics
        self._clock = clock
        self._timestamp = timestamp

    async def reconcile(self, key: Key) -> Result:
        """One look.

        Raises:
            Unavailable: the API server could not do something now.
        """
        service = self._store.service(key)
        if service is None or service.deleting:
            # Kubernetes' garbage collector takes away what it owned.
            self._routers.awaited(key, waits=False)
            if service is None:
                self._following.forget(key)
                self._metrics.forget(*key)
            return Result(gone=service is None)
        try:
            resource = InferenceService.model_validate(service.resource, extra="ignore")
        except ValidationError as error:
            return await self._invalid(key, service, error)
        with self._metrics.planning.time():
            views, sources = self._routers.views(), {**self._sources.known(key[0]), **self._following.known()}
            reports, outcomes = self._routers.reports(key), self._outcomes.known()
            observed = observe(self._store, key, service, views, sources, reports, outcomes)
            plan = self._planner(resource, observed, self._clock())
        status = plan.status or resource.status
        self._metrics.experiments.told(*key, status.experiment if status else None)
        self._routers.awaited(key, waits=plan.awaits_routers)
        for wanted in plan.resolve:
            self._sources.resolve(key, wanted)
        self._following.want(key, resource.metadata.uid, plan.follow, plan.uses)
        if plan.inquire is not None:
            self._outcomes.inquire(key, plan.inquire)
        if plan.tell is not None:
            self._outcomes.tell(key, plan.tell)
        return await self._carry_out(key, service, plan)

    async def _carry_out(self, key: Key, service: ServiceView, plan: Plan) -> Result:
        meta = service.resource["metadata"]
        try:
            outcome = await self._executor.execute(key, meta["uid"], plan)
        except Ending:
            return Result()
        status: Json = service.resource.get("status") or {}
        events = plan.events
        if plan.status is not None:
            status = plan.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        if outcome.refused:
            reason, message = refusal(outcome.refused)
            _log.error("refused", extra={"service": "/".join(key), "why": message})
            status = with_condition(status, "Degraded", reason, message, meta["generation"], self._timestamp())
            events = (Event("Warning", reason, message),)
        try:
            told = await self._report(key, service, status, events)
        except (Conflict, NotFound) as error:
            _log.info("decides again", extra={"why": str(error)})
            return Result(outdated=True)
        if outcome.refused:
            later = min(REFUSED_AGAIN_SECONDS, plan.again_after or REFUSED_AGAIN_SECONDS)
            return Result(outdated=outcome.outdated, again_after=later)
        wrote = told or bool(plan.gates or plan.apply or plan.scale or plan.delete)
        return Result(wrote, outcome.outdated, plan.again_after)

    async def _invalid(self, key: Key, service: ServiceView, error: ValidationError) -> Result:
        """A resource that a former CRD let in: said, and what runs for it is left alone."""
        found = "; ".join(f"{_path(one['loc'])}: {one['msg']}" for one in error.errors(include_url=False))
        meta, status = service.resource["metadata"], service.resource.get("status") or {}
        message = f"{found}. What runs stays as it is; correct the resource"
        made = with_condition(status, "Ready", "Invalid", message, meta["generation"], self._timestamp())
        self._routers.awaited(key, waits=False)
        try:
            await self._report(key, service, made, (Event("Warning", "Invalid", message),))
        except (Conflict, NotFound):
            return Result(outdated=True)
        return Result()

    async def _report(self, key: Key, service: ServiceView, status: Json, events: Iterable[Event]) -> bool:
        """Writes the status, where it is another, and then tells of it. Returns whether it wrote."""
        self._metrics.told(*key, {one["type"]: one["status"] for one in status.get("conditions") or ()})
        try:
            wrote = await self._statuses.write(key, service, status)
        except Refused as error:
            _log.error("can't say a service's status", extra={"service": "/".join(key), "why": str(error)})
            return False
        if wrote:
            await self._events.post(service, events)
        return wrote


def _path(location: tuple[Any, ...]) -> str:
    """As people write it: spec.versions[1].weight."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
