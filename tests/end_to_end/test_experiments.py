"""Experiments on a cluster: split by the hash alone, counted to the last request, ended by themselves."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tandem_api.experiments import on_challenger
from tandem_operator.planning.experiments.record import replay
from tandem_router.scheduling.split import fnv1a_64

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.experimenting import (
    ANYBODY,
    AT_ONCE,
    asking,
    counted,
    experiment,
    experiment_of,
    has_experiment,
    record_of,
    routed,
    running,
)
from tests.end_to_end.following import SECONDS, complete, condition, following
from tests.end_to_end.load import loaded
from tests.end_to_end.registry import Registry
from tests.end_to_end.release import NAME, Release, installed
from tests.end_to_end.services import apply, lives, patch, workers

REQUESTS = 10_000
USERS = 1_000
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
    settings = {
        "registry": {"url": registry.url},
        "keys": {"store": False},
        # The operator asks a router that ends for what it has counted, be the machine ever so busy.
        "router": {"lameDuckSeconds": 15},
    }
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", **settings) as release:
        yield release


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_ten_thousand_requests_split_by_the_users_hash_and_all_count_whoever_restarts(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    # A margin of nothing: equal versions are told apart by nobody, and the split stays.
    manifest = experiment(namespace, weight=10, decide=[{"metric": "errorRate"}])
    manifest["spec"]["routing"] = {"stickyBy": {"header": "x-user-id"}}
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        state = await states.until(running)
        pods = lives(workers(cluster, manifest))
        users = _Users(state["status"]["experiment"]["id"], weight=10)
        assert 0.08 < users.share("v2") < 0.12

        async with asking(release, manifest) as clients:
            await clients.all(users.some(2_000))
            for name in ("operator", "router"):
                # Under load: whoever comes next goes on with what was counted.
                restarting = asyncio.create_task(asyncio.to_thread(_restart, cluster, release, name))
                while not restarting.done():
                    await clients.all(users.some(200))
                await restarting
            # The routers that were made last get some, however many have been asked by then.
            await clients.all(users.some(max(1_000, REQUESTS - clients.served.total())))
            await states.until(counted(clients.served))

            # A router that is killed takes along what it was not asked for yet: nothing, when all is counted.
            router = release.routers()[0]
            name = router["metadata"]["name"]
            cluster.kubectl("delete", "pod", name, "-n", release.namespace, "--force", "--grace-period=0")
            await _gone(router["status"]["podIP"])
            await clients.all(users.some(300), again=True)
            state = await states.until(counted(clients.served))
    assert clients.served.total() >= REQUESTS
    assert state["status"]["experiment"]["phase"] == "Running"
    record = record_of(cluster, namespace)
    assert len({report.incarnation for report in record.ledger if report.shares}) >= 4
    assert lives(workers(cluster, manifest)) == pods


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_canary_goes_through_its_steps_and_is_promoted_with_every_stream_whole(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    steps = [{"weight": 5, "minRequests": 3, "minDuration": "1s"}, {"weight": 50, "minRequests": 20}]
    manifest = experiment(namespace, steps=steps, decide=WELL)
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        await states.until(running)
        async with loaded(release.url, manifest["spec"]["model"], clients=6, seeds=(1, 2)) as load:
            load.seeds = frozenset((1, 2))
            state = await states.until(lambda state: experiment_of(state).phase == "Promoted")
            assert condition(state, "ExperimentConcluded")["status"] == "True"
            assert "remove `experiment` and v1" in condition(state, "ExperimentConcluded")["message"]
            shown = [experiment_of(one).weight for one in states.states if (one.get("status") or {}).get("experiment")]
            assert list(dict.fromkeys(shown))[-3:] == [5, 50, 100]
            await states.until(routed)
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
    slow = {"metric": "ttft", "threshold": "3s", "tolerate": {"absolute": "10%"}}
    manifest = experiment(namespace, steps=steps, decide=[slow])
    # Short prompts don't show it: all of them together take it a third of a second.
    manifest["spec"]["versions"][1]["engine"]["virtual"]["prefillTokenTime"] = "1ms"
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states, asking(release, manifest) as clients:
        await states.until(running)
        await clients.all(ANYBODY * 100)
        assert not any(experiment_of(one).phase == "RolledBack" for one in states.states if has_experiment(one))

        clients.long = True
        ended = asyncio.create_task(states.until(lambda state: experiment_of(state).phase == "RolledBack"))
        while not ended.done():
            await clients.all(ANYBODY * AT_ONCE)
        state = await ended
        assert (experiment_of(state).reason, experiment_of(state).weight) == ("HarmShown", 0)
        assert experiment_of(state).metric == "ttft above 3 s"
        assert {one["name"]: one["weight"] for one in state["status"]["versions"]} == {"v1": 100, "v2": 0}
        await states.until(routed)
        before = Counter(clients.served)
        await clients.all(ANYBODY * 50)
        assert clients.served - before == Counter(v1=50)
    record = record_of(cluster, namespace)
    assert replay(record) == record.state
    assert "ExperimentRolledBack" in _events(cluster, namespace)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_shadow_answers_nobody_and_is_compared(cluster: Cluster, release: Release, namespace: str) -> None:
    manifest = experiment(namespace, shadow={"percent": 100, "maxInFlight": 4})
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states, asking(release, manifest) as clients:
        await states.until(running)
        enough = asyncio.create_task(states.until(lambda state: experiment_of(state).challenger_requests > 20))
        while not enough.done():
            await clients.all([("anybody", "v1")] * 200)
        state = await enough
    assert (experiment_of(state).phase, experiment_of(state).weight) == ("Running", 0)
    assert [metric.name for metric in experiment_of(state).metrics] == ["errorRate", "ttft p95", "tpot p95", "tokens"]
    assert experiment_of(state).metrics[0].challenger == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_a_challenger_waits_for_the_registry_and_one_that_lost_is_not_tried_again(
    cluster: Cluster, release: Release, registry: Registry, namespace: str
) -> None:
    manifest = experiment(namespace, weight=50, decide=[{"metric": "errorRate"}])
    registry.stop()
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states:
        state = await states.until(lambda state: complete(state) and experiment_of(state).reason == "RegistryNotAsked")
        assert {one["name"]: one["weight"] for one in state["status"]["versions"]} == {"v1": 100, "v2": 0}
        registry.start()
        state = await states.until(running)

        # It goes on without a registry, and what comes of it is told when there is one again.
        registry.stop()
        cluster.kubectl("annotate", "inferenceservice", "tried", "-n", namespace, "tandem.dev/experiment=abort")
        await states.until(lambda state: experiment_of(state).phase == "RolledBack")
        registry.start()
        await registry.told(experiment_of(state).id, "rolledBack")

        cluster.kubectl("delete", "inferenceservice", "tried", "-n", namespace)
        apply(cluster, manifest)
        again = await states.until(lambda state: experiment_of(state).reason == "DecidedBefore")
    assert (experiment_of(again).id, experiment_of(again).phase, experiment_of(again).weight) == (
        experiment_of(state).id,
        "RolledBack",
        0,
    )


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


def _restart(cluster: Cluster, release: Release, name: str) -> None:
    """A rolling restart, to its end."""
    deployment = ("-n", release.namespace, f"deployment/{NAME}-{name}")
    cluster.kubectl("rollout", "restart", *deployment)
    cluster.kubectl("rollout", "status", *deployment, "--timeout=120s", timeout=150)


async def _gone(address: str) -> None:
    """Waits until a router that is killed takes no requests any more."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(address, 8080)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.1)


def _events(cluster: Cluster, namespace: str) -> set[str]:
    return {event["reason"] for event in cluster.get("events", namespace=namespace)["items"]}
