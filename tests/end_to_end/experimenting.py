"""A service with an experiment, requests to it that each have to be answered, and what has been counted of them."""

import random
from asyncio import TaskGroup
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from tandem_api.inference_service.status import ExperimentState
from tandem_operator.planning.experiments.conducting import RECORD
from tandem_operator.planning.experiments.record import Record, load

from tests.cluster.cluster import Cluster
from tests.conservation.shots import Ask
from tests.end_to_end.following import Json, complete, condition
from tests.end_to_end.release import Release
from tests.end_to_end.services import answer, service, version

SEEDS: Final = {"v1": 1, "v2": 2}
AT_ONCE: Final = 24
ANYBODY: Final = [("anybody", "")]


def experiment(namespace: str, **settings: object) -> Json:
    """A service `tried` of decode workers alone, with a challenger beside its champion."""
    versions = [version(name, seed=seed) for name, seed in SEEDS.items()]
    manifest = service("tried", namespace, *versions)
    for one in versions:
        one["engine"]["virtual"]["decodeStepTime"] = "2ms"
    del manifest["spec"]["prefill"]
    manifest["spec"]["experiment"] = {"champion": "v1", "challenger": "v2", **settings}
    return manifest


@dataclass
class Asking:
    """Clients whose every request has to be answered, by the version that they expect."""

    url: str
    model: str
    session: aiohttp.ClientSession
    versions: dict[str, str]
    """By what they say."""
    long: bool = False
    """Their questions have 800 words."""
    turns: random.Random = field(default_factory=random.Random)
    served: Counter[str] = field(default_factory=Counter)

    async def all(self, users: Iterable[tuple[str, str]], *, again: bool = False) -> None:
        """One request for each, with the version that has to answer, or none.

        `again`: a connection that breaks before the answer begins is no fault.
        """
        todo = iter(users)

        async def client() -> None:
            for user, expected in todo:
                version = await self._ask(user, again)
                self.served[version] += 1
                assert version == (expected or version), user

        async with TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(client())

    async def _ask(self, user: str, again: bool) -> str:
        # Long ones each begin otherwise: what a worker has computed before costs it nothing.
        question = f"{self.turns.random()} {'asks ' * 800}" if self.long else "Who are you?"
        ask = Ask(question, seed=7, max_tokens=3, stream=False, chat=True)
        while True:
            try:
                async with self.session.post(
                    f"{self.url}/chat/completions", json=ask.body(self.model), headers={"x-user-id": user}
                ) as response:
                    body = await response.json()
                    assert response.status == 200, body
                    text = body["choices"][0]["message"]["content"]
                    if text not in self.versions:
                        for version, seed in SEEDS.items():
                            self.versions[(await answer(ask, seed)).text] = version
                    return self.versions[text]
            except aiohttp.ClientConnectionError:
                if not again:
                    raise


@asynccontextmanager
async def asking(release: Release, manifest: Json, key: str = "none") -> AsyncIterator[Asking]:
    """Clients of a service, who show this key."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {key}"}) as session:
        yield Asking(release.url, manifest["spec"]["model"], session, {})


def has_experiment(state: Json) -> bool:
    return bool((state.get("status") or {}).get("experiment"))


def experiment_of(state: Json) -> ExperimentState:
    """What status says of it; before there is one, of one that waits."""
    nothing = {"id": "", "champion": "", "challenger": ""}
    return ExperimentState.model_validate((state.get("status") or {}).get("experiment") or nothing)


def routed(state: Json) -> bool:
    """Every router splits as status says."""
    return condition(state, "RouterReady").get("status") == "True"


def running(state: Json) -> bool:
    return experiment_of(state).phase == "Running" and routed(state) and complete(state)


def counted(expected: Counter[str]) -> Callable[[Json], bool]:
    """All of these, and nothing else, have been counted."""

    def holds(state: Json) -> bool:
        found = experiment_of(state)
        counts = Counter(v1=found.champion_requests, v2=found.challenger_requests)
        assert counts <= expected, (counts, expected)
        return counts == expected

    return holds


def record_of(cluster: Cluster, namespace: str) -> Record:
    """What is kept of the experiment of the service `tried`."""
    kept = load(cluster.get("configmap", "tried-experiment", namespace=namespace)["data"][RECORD])
    assert kept is not None
    return kept
