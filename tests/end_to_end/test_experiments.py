"""Experiments on a cluster: split by the hash alone, counted to the last request, ended by themselves."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from tandem_api.experiments import on_challenger
from tandem_api.inference_service.status import ExperimentState
from tandem_operator.planning.experiments.conducting import RECORD
from tandem_operator.planning.experiments.record import Record, load, replay
from tandem_router.scheduling.split import fnv1a_64

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.conservation.shots import Ask
from tests.end_to_end.following import Json, complete, condition, following
from tests.end_to_end.load import loaded
from tests.end_to_end.registry import Registry
from tests.end_to_end.release import NAME, Release, installed
from tests.end_to_end.services import answer, apply, lives, patch, service, version, workers

SEEDS = {"v1": 1, "v2": 2}
REQUESTS = 10_000
USERS = 1_000
AT_ONCE = 24
ANYBODY = [("anybody", "")]
WELL = [{"metric": "errorRate", "tolerate": {"absolute": "20%"}}]


@pytest.fixture(scope="module")
def registry(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if cluster.control_plane is None:
        pytest.skip("a registry of the test's own has no address that a developer's cluster can reach")
    with Registry(cluster, tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def release(cluster: Cluster, cluster_node: ClusterNode, registry: Registry) -> Iterator[Release]:
    """The chart with a registry that is somewhere else."""
    with installed(
        cluster, f"tandem-{secrets.token_hex(4)}", registry={"url": registry.url}, keys={"store": False}
    ) as release:
        yield release


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_ten_thousand_requests_split_by_the_users_hash_and_all_count_whoever_restarts(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    # A margin of nothing: equal versions are told apart by nobody, and the split stays.
    manifest = _experiment(namespace, weight=10, decide=[{"metric": "errorRate"}])
    manifest["spec"]["routing"] = {"stickyBy": {"header": "x-user-id"}}
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        state = await states.until(_running)
        pods = lives(workers(cluster, manifest))
        users = _Users(state["status"]["experiment"]["id"], weight=10)
        assert 0.08 < users.share("v2") < 0.12

        async with _asking(release, manifest) as asking:
            await asking.all(users.some(2_000))
            for name in ("operator", "router"):
                # Under load: whoever comes next goes on with what was counted.
                restarting = asyncio.create_task(asyncio.to_thread(_restart, cluster, release, name))
                while not restarting.done():
                    await asking.all(users.some(200))
                await restarting
            await asking.all(users.some(max(0, REQUESTS - asking.served.total())))
            await states.until(_counted(asking.served))

            # A router that is killed takes along what it was not asked for yet: nothing, when all is counted.
            router = next(iter(_routers(cluster, release)))
            cluster.kubectl("delete", "pod", router, "-n", release.namespace, "--force", "--grace-period=0")
            await asking.all(users.some(300), again=True)
            state = await states.until(_counted(asking.served))
    assert asking.served.total() >= REQUESTS
    assert state["status"]["experiment"]["phase"] == "Running"
    record = _record(cluster, namespace)
    assert len({report.incarnation for report in record.ledger if report.shares}) >= 4
    assert lives(workers(cluster, manifest)) == pods


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_canary_goes_through_its_steps_and_is_promoted_with_every_stream_whole(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    steps = [{"weight": 5, "minRequests": 3, "minDuration": "1s"}, {"weight": 50, "minRequests": 20}]
    manifest = _experiment(namespace, steps=steps, decide=WELL)
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        await states.until(_running)
        async with loaded(release.url, manifest["spec"]["model"], clients=6, seeds=(1, 2)) as load:
            load.seeds = frozenset((1, 2))
            state = await states.until(lambda state: _state(state).phase == "Promoted")
            assert condition(state, "ExperimentConcluded")["status"] == "True"
            assert "remove `experiment` and v1" in condition(state, "ExperimentConcluded")["message"]
            shown = [_state(one).weight for one in states.states if (one.get("status") or {}).get("experiment")]
            assert list(dict.fromkeys(shown))[-3:] == [5, 50, 100]
            await states.until(_routed)
            load.seeds = frozenset((2,))
            await load.grows(20)

            # What the condition asks for.
            manifest["spec"] |= {"experiment": None, "versions": manifest["spec"]["versions"][1:]}
            await states.until(complete, since=patch(cluster, manifest))
            await load.grows(20)
        assert not load.faults, "\n".join(load.faults)
        assert set(load.from_seed) == {1, 2}
    assert _events(cluster, namespace) >= {"ExperimentStep", "ExperimentPromoted"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_challenger_that_turns_slow_is_rolled_back_by_itself(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    steps = [{"weight": 50, "minDuration": "1h"}]
    slow = {"metric": "ttft", "threshold": "500ms", "tolerate": {"absolute": "10%"}}
    manifest = _experiment(namespace, steps=steps, decide=[slow])
    # Short prompts don't show it: all of them together take it a third of a second.
    manifest["spec"]["versions"][1]["engine"]["virtual"]["prefillTokenTime"] = "1ms"
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states, _asking(release, manifest) as asking:
        await states.until(_running)
        await asking.all(ANYBODY * 100)
        assert not any(_state(one).phase == "RolledBack" for one in states.states if _has_experiment(one))

        asking.long = True
        ended = asyncio.create_task(states.until(lambda state: _state(state).phase == "RolledBack"))
        while not ended.done():
            await asking.all(ANYBODY * AT_ONCE)
        state = await ended
        assert (_state(state).reason, _state(state).weight) == ("HarmShown", 0)
        assert _state(state).metric == "ttft above 0.5 s"
        assert {one["name"]: one["weight"] for one in state["status"]["versions"]} == {"v1": 100, "v2": 0}
        await states.until(_routed)
        before = Counter(asking.served)
        await asking.all(ANYBODY * 50)
        assert asking.served - before == Counter(v1=50)
    record = _record(cluster, namespace)
    assert replay(record) == record.state
    assert "ExperimentRolledBack" in _events(cluster, namespace)


@pytest.mark.slow
@pytest.mark.usefixtures("inside_cluster")
async def test_a_shadow_answers_nobody_and_is_compared(cluster: Cluster, release: Release, namespace: str) -> None:
    manifest = _experiment(namespace, shadow={"percent": 100, "maxInFlight": 4})
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states, _asking(release, manifest) as asking:
        await states.until(_running)
        await asking.all([("anybody", "v1")] * 200)
        state = await states.until(lambda state: _state(state).challenger_requests > 20)
    assert (_state(state).phase, _state(state).weight) == ("Running", 0)
    assert [metric.name for metric in _state(state).metrics] == ["errorRate", "ttft p95", "tpot p95", "tokens"]
    assert _state(state).metrics[0].challenger == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_challenger_waits_for_the_registry_and_one_that_lost_is_not_tried_again(
    cluster: Cluster, release: Release, registry: Registry, namespace: str
) -> None:
    manifest = _experiment(namespace, weight=50, decide=[{"metric": "errorRate"}])
    registry.stop()
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        state = await states.until(lambda state: complete(state) and _state(state).reason == "RegistryNotAsked")
        assert {one["name"]: one["weight"] for one in state["status"]["versions"]} == {"v1": 100, "v2": 0}
        registry.start()
        state = await states.until(_running)

        # It goes on without a registry, and what comes of it is told when there is one again.
        registry.stop()
        cluster.kubectl("annotate", "inferenceservice", "tried", "-n", namespace, "tandem.dev/experiment=abort")
        await states.until(lambda state: _state(state).phase == "RolledBack")
        registry.start()
        await registry.told(_state(state).id, "rolledBack")

        cluster.kubectl("delete", "inferenceservice", "tried", "-n", namespace)
        apply(cluster, manifest)
        again = await states.until(lambda state: _state(state).reason == "DecidedBefore")
    assert (_state(again).id, _state(again).phase, _state(again).weight) == (_state(state).id, "RolledBack", 0)


@dataclass
class _Users:
    """So many of them, and the version that each is to have."""

    experiment: str
    weight: int
    turns: random.Random = field(default_factory=lambda: random.Random(6))

    def version(self, user: str) -> str:
        hashed = fnv1a_64((self.experiment + user).encode())
        return "v2" if on_challenger(f"{hashed:016x}", self.weight) else "v1"

    def share(self, version: str) -> float:
        return sum(self.version(f"user-{number}") == version for number in range(USERS)) / USERS

    def some(self, requests: int) -> list[tuple[str, str]]:
        """Users that ask next, each with its version."""
        names = [f"user-{self.turns.randrange(USERS)}" for _ in range(requests)]
        return [(name, self.version(name)) for name in names]


@dataclass
class Asking:
    """Clients whose every request has to be answered, by the version that they expect."""

    url: str
    model: str
    session: aiohttp.ClientSession
    versions: dict[str, str]
    """By what they say."""
    long: bool = False
    """Their questions have 400 words."""
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

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(client())

    async def _ask(self, user: str, again: bool) -> str:
        # Long ones each begin otherwise: what a worker has computed before costs it nothing.
        question = f"{self.turns.random()} {'asks ' * 400}" if self.long else "Who are you?"
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
async def _asking(release: Release, manifest: Json) -> AsyncIterator[Asking]:
    async with aiohttp.ClientSession() as session:
        yield Asking(release.url, manifest["spec"]["model"], session, {})


def _experiment(namespace: str, **experiment: object) -> Json:
    """A service of decode workers alone, with a challenger beside its champion."""
    versions = [version(name, seed=seed) for name, seed in SEEDS.items()]
    manifest = service("tried", namespace, *versions)
    for one in versions:
        one["engine"]["virtual"]["decodeStepTime"] = "2ms"
    del manifest["spec"]["prefill"]
    manifest["spec"]["experiment"] = {"champion": "v1", "challenger": "v2", **experiment}
    return manifest


def _has_experiment(state: Json) -> bool:
    return bool((state.get("status") or {}).get("experiment"))


def _state(state: Json) -> ExperimentState:
    """Of the experiment; before there is one, of one that waits."""
    nothing = {"id": "", "champion": "", "challenger": ""}
    return ExperimentState.model_validate((state.get("status") or {}).get("experiment") or nothing)


def _routed(state: Json) -> bool:
    """Every router splits as status says."""
    return condition(state, "RouterReady").get("status") == "True"


def _running(state: Json) -> bool:
    return _state(state).phase == "Running" and _routed(state) and complete(state)


def _counted(expected: Counter[str]) -> Callable[[Json], bool]:
    def holds(state: Json) -> bool:
        found = _state(state)
        counted = Counter(v1=found.champion_requests, v2=found.challenger_requests)
        assert counted <= expected, (counted, expected)
        return counted == expected

    return holds


def _record(cluster: Cluster, namespace: str) -> Record:
    kept = load(cluster.get("configmap", "tried-experiment", namespace=namespace)["data"][RECORD])
    assert kept is not None
    return kept


def _restart(cluster: Cluster, release: Release, name: str) -> None:
    """A rolling restart, to its end."""
    deployment = ("-n", release.namespace, f"deployment/{NAME}-{name}")
    cluster.kubectl("rollout", "restart", *deployment)
    cluster.kubectl("rollout", "status", *deployment, "--timeout=120s", timeout=150)


def _routers(cluster: Cluster, release: Release) -> list[str]:
    pods = cluster.get("pods", "-l", "app.kubernetes.io/component=router", namespace=release.namespace)["items"]
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def _events(cluster: Cluster, namespace: str) -> set[str]:
    return {event["reason"] for event in cluster.get("events", namespace=namespace)["items"]}
