"""What services that came and went leave in an operator, which is nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tandem_operator import outcomes as outcomes_module
from tandem_operator import store as store_module
from tandem_operator.executing import Executor
from tandem_operator.following import Following
from tandem_operator.metrics import Metrics
from tandem_operator.outcomes import Outcomes
from tandem_operator.planning.actions import Plan
from tandem_operator.queueing import KeyedQueue
from tandem_operator.reconciling import Reconciler
from tandem_operator.reporting import Events, StatusWriter
from tandem_operator.routers import RouterPoller
from tandem_operator.settings import RegistrySettings, RouterSettings
from tandem_operator.sources import SourceResolver
from tandem_operator.store import Store
from tandem_operator.working import Workers

from tests.holdings import grown_by_nothing, holdings
from tests.operator.making import service

NAMESPACE = "ns"
REMEMBERED = 8
NOBODY: Any = None
"""The cluster: nothing is written here."""


class Registry:
    """What an operator needs of one."""

    def __init__(self) -> None:
        self.uses: set[str] = set()

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if "/uses/" in path:
            (self.uses.add if request.method == "PUT" else self.uses.discard)(path)
            return httpx.Response(204)
        if path.endswith("/versions"):
            return httpx.Response(200, json={"object": "list", "data": [], "next_cursor": None})
        return httpx.Response(404, json={"error": {"message": "there is none"}})


class Operator:
    """All that remembers anything of a service. `decide` makes its plan."""

    def __init__(self, http: httpx.AsyncClient, decide: Callable[[Any], Plan]) -> None:
        self.store, self.queue, self.metrics = Store(), KeyedQueue[tuple[str, str]](), Metrics()
        registry = RegistrySettings(url="http://registry", key_file=None)
        self.following = Following(http, registry, self.queue.add, lambda: 0.0)
        self.outcomes = Outcomes(http, registry, self.queue.add)
        self.routers = RouterPoller(NOBODY, http, RouterSettings(), self.metrics, lambda _: None, lambda: 0.0)
        reconciler = Reconciler(
            self.store,
            lambda resource, observed, now: decide(resource),
            Executor(NOBODY, self.store, str),
            StatusWriter(NOBODY, self.store),
            Events(NOBODY, str, "operator"),
            self.routers,
            SourceResolver(NOBODY, http, "", self.queue.add, lambda: 0.0),
            self.following,
            self.outcomes,
            self.metrics,
            clock=lambda: 0.0,
            timestamp=str,
        )
        self.workers = Workers(self.queue, reconciler, self.metrics)

    def make(self, name: str) -> None:
        resource = service(model=name).model_dump(mode="json", by_alias=True, exclude_none=True)
        for key in self.store.put("InferenceService", {**resource, "metadata": _meta(name)}):
            self.queue.add(key)
        labels = {f"tandem.dev/{what}": name for what in ("service", "version", "revision", "role")}
        spec = {"replicas": 1, "template": {"spec": {"containers": [{"image": "x"}]}}}
        meta = _meta(name, labels=labels) | {"uid": f"deployment-{name}"}
        self.store.put("Deployment", {"metadata": meta, "spec": spec})

    def end(self, name: str) -> None:
        # The watch was quicker than the answer to the deletion.
        self.store.remove("Deployment", NAMESPACE, name, f"deployment-{name}")
        self.store.deleted("Deployment", NAMESPACE, name, f"deployment-{name}")
        for key in self.store.remove("InferenceService", NAMESPACE, name, f"uid-{name}"):
            self.queue.add(key)


def _meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1, **more}


async def test_services_that_are_gone_leave_nothing_in_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes_module, "REMEMBERED", REMEMBERED)
    monkeypatch.setattr(store_module, "DELETIONS", REMEMBERED)
    registry = Registry()
    settled: set[str] = set()

    def decide(resource: Any) -> Plan:
        name = resource.metadata.name
        settled.add(name)
        return Plan(uses=("qwen3/v1",), inquire=f"experiment of {name}", awaits_routers=True, again_after=3600)

    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(transport=httpx.MockTransport(registry.answer)) as http,
        asyncio.TaskGroup() as tasks,
    ):
        operator = Operator(http, decide)
        operator.queue.open()
        running = [
            tasks.create_task(one)
            for one in (operator.workers.run(1), operator.following.run(), operator.outcomes.run())
        ]

        async def come_and_go(names: set[str]) -> None:
            for name in names:
                operator.make(name)
            while not names <= settled or len(registry.uses) < len(names):
                await asyncio.sleep(0.01)
            for name in names:
                operator.end(name)
            while registry.uses or len(operator.queue):
                await asyncio.sleep(0.01)

        await come_and_go({f"first-{n}" for n in range(2 * REMEMBERED)})
        before = holdings("tandem_operator")
        await come_and_go({f"then-{n}" for n in range(50)})
        await grown_by_nothing("tandem_operator", before)
        for task in running:
            task.cancel()
