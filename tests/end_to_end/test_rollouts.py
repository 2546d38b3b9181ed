"""Versions change under load, and not one request is refused, dropped, or answered by anything but its own text."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.following import Json, complete, condition, following, rolling, serving
from tests.end_to_end.load import loaded
from tests.end_to_end.release import Release
from tests.end_to_end.services import ENGINE, apply, patch, service, workers

IMAGE = "ghcr.io/tandem-serving/tandem-worker-virtual"
COMMITS = "a" * 40, "b" * 40

Where = Callable[[Json], bool]


def _made(state: Json) -> bool:
    """The revision that is wanted has been made."""
    return rolling(state)


def _both_serve(state: Json) -> bool:
    """Requests begin on both revisions."""
    return rolling(state) and len(serving(state)) == 2


@dataclass(frozen=True)
class Change:
    """A step of a user's: what becomes of version v1, and of the rest of the spec."""

    version: Json = field(default_factory=dict)
    spec: Json = field(default_factory=dict)
    until: Where = complete
    """When the user takes the next step."""
    back: bool = False
    """It reverts what has begun: the very workers of before are there in the end."""


def placed(disk: str | None) -> Json:
    """Where decode workers may be. The node has no disk: a change waits there until the user takes the next step."""
    return {"decode": {"nodeSelector": {"disk": disk}} if disk else {}}


def seeded(seed: int) -> Json:
    return {"engine": {"type": "virtual", "virtual": {**ENGINE, "seed": seed}}}


ALONE = (
    Change({"image": f"{IMAGE}:1"}),
    Change({"source": f"hf://acme/model@{COMMITS[0]}"}),
    Change(seeded(1)),
    # Reverted as soon as it has begun.
    Change({"image": f"{IMAGE}:2", **placed("fast")}, until=_made),
    Change({"image": f"{IMAGE}:1", **placed(None)}, back=True),
    # Reverted when both serve.
    Change(seeded(2), until=_both_serve),
    Change(seeded(1)),
    # Changed once more on its way, and back.
    Change({"source": f"hf://acme/model@{COMMITS[1]}", **placed("fast")}, until=_made),
    Change({"image": f"{IMAGE}:3"}, until=_made),
    Change({"image": f"{IMAGE}:1", "source": f"hf://acme/model@{COMMITS[0]}", **placed(None)}, back=True),
)
"""Ten changes of a single pair, by kubectl apply."""

SEVERAL = (
    Change({"engine": {"args": ["--max-model-len=4096"], **seeded(0)["engine"]}}),
    Change({"image": f"{IMAGE}:1"}, {"rollout": {"maxSurge": "50%"}}),
    Change({"image": f"{IMAGE}:2"}, {"rollout": {"maxSurge": 0, "maxUnavailable": 1}}, until=_both_serve),
    Change({"image": f"{IMAGE}:1"}),
    Change(seeded(1), {"rollout": {"maxSurge": 0, "maxUnavailable": "50%"}}),
    # Scaled on its way, and changed again.
    Change({"image": f"{IMAGE}:3"}, {"rollout": {"maxSurge": "100%"}}, until=_made),
    Change({}, {"decode": {"replicas": 1}, "prefill": {"replicas": 2}}, until=_made),
    Change({"image": f"{IMAGE}:4"}, {"decode": {"replicas": 2}}, until=_both_serve),
    Change({"image": f"{IMAGE}:3"}, {"rollout": {"maxSurge": 1, "maxUnavailable": 1}}, until=_made),
    Change(seeded(2), {"prefill": {"replicas": 1}}),
)
"""Ten changes of two prefill and three decode workers at first, by kubectl patch."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_twenty_rollouts_under_load_lose_no_request(
    cluster: Cluster, cluster_node: ClusterNode, release: Release, namespace: str
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_roll(cluster, release, service("alone", namespace), ALONE, by_patch=False))
        several = service("several", namespace, prefill=2, decode=3)
        tasks.create_task(_roll(cluster, release, several, SEVERAL, by_patch=True))
    pairs = _pairs(cluster, cluster_node, release, namespace)
    print(f"{len(pairs)} pairs, of {len({decode for _, decode in pairs})} revisions")
    assert len({decode for _, decode in pairs}) >= len(ALONE) // 2
    assert all(prefill == decode for prefill, decode in pairs), pairs


async def _roll(
    cluster: Cluster, release: Release, manifest: Json, changes: tuple[Change, ...], *, by_patch: bool
) -> None:
    """Takes the changes one by one under load, and looks that nobody notices anything."""
    metadata, spec = manifest["metadata"], manifest["spec"]
    name, namespace = metadata["name"], metadata["namespace"]
    apply(cluster, manifest)
    async with following(cluster, namespace, name) as states:
        await states.until(complete)
        pods = set(workers(cluster, manifest))
        first = len(states.states)
        async with loaded(release.url, spec["model"], clients=6, seeds=(0, 1, 2)) as load:
            for number, change in enumerate(changes):
                spec["versions"][0] |= change.version
                spec |= change.spec
                load.seeds |= {_seed(manifest)}
                told = await asyncio.to_thread(patch if by_patch else apply, cluster, manifest)
                await states.until(change.until, since=told)
                if change.until is complete:
                    load.seeds = frozenset({_seed(manifest)})
                    before, pods = pods, set(await asyncio.to_thread(workers, cluster, manifest))
                    assert not change.back or pods == before
                await load.grows(4)
                print(f"{name} {number}: {load.complete} answers")
                assert not load.faults, load.faults[:5]
            answered = load.complete
    print(f"{name}: {answered} answers, {load.from_seed}")
    assert not load.faults, load.faults[:5]
    unready = [state["status"] for state in states.states[first:] if condition(state, "Ready").get("status") == "False"]
    assert not unready, unready[:2]


def _seed(manifest: Json) -> int:
    return int(manifest["spec"]["versions"][0]["engine"]["virtual"]["seed"])


def _pairs(cluster: Cluster, node: ClusterNode, release: Release, namespace: str) -> set[tuple[str, str]]:
    """Which revision's prefill worker computed for which one's decode worker, as the routers' access logs say."""
    found = set()
    for pod in cluster.get("pods", "-l", "app.kubernetes.io/component=router", namespace=release.namespace)["items"]:
        for line in node.log(release.namespace, pod["metadata"]["name"], "router").splitlines():
            entry = json.loads(line)
            if entry.get("model", "").endswith(namespace) and "prefill_worker" in entry:
                found.add((_revision(entry["prefill_worker"]), _revision(entry["decode_worker"])))
    return found


def _revision(pod: str) -> str:
    """NAME-VERSION-ROLE-REVISION-HASH-ID, of name, version and revision what is left without the role."""
    *name, _, revision, _, _ = pod.split("-")
    return "-".join([*name, revision])
