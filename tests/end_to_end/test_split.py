"""Versions side by side: who serves whom follows from the weights and the key alone, and nothing else changes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.conservation.shots import Ask
from tests.end_to_end.following import Json, complete, condition, following
from tests.end_to_end.release import Release
from tests.end_to_end.services import answer, apply, lives, patch, service, version, workers

SEEDS = {"v1": 1, "v2": 2, "v3": 3}
USERS = tuple(f"user-{number}" for number in range(2000))
QUESTION = Ask("Who are you?", seed=7, max_tokens=3, stream=False, chat=True)
AT_ONCE = 16


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_weights_move_only_the_users_whose_share_moves_and_no_pod(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    manifest = _split(namespace, _version("v1", 90), _version("v2", 10))
    name, versions = manifest["spec"]["model"], manifest["spec"]["versions"]
    apply(cluster, manifest)
    async with following(cluster, namespace, "split") as states:
        await states.until(complete)
        pods = lives(workers(cluster, manifest))
        before = await _serves(release, name, USERS)
        assert 0.08 < _share(before, "v2") < 0.12
        assert await _serves(release, name, USERS[::10]) == {user: before[user] for user in USERS[::10]}

        # More for v2: from the moment that status says so, each router splits by the weights.
        versions[0]["weight"], versions[1]["weight"] = 70, 30
        await states.until(_serving(v1=70, v2=30), since=patch(cluster, manifest))
        after = await _serves(release, name, USERS)
        assert 0.27 < _share(after, "v2") < 0.33
        assert {(before[user], after[user]) for user in USERS if before[user] != after[user]} == {("v1", "v2")}
        assert lives(workers(cluster, manifest)) == pods

        # v2 can't serve: v1 has its share, and status says so.
        versions[1]["decode"] = {"replicas": 0}
        state = await states.until(_serving(v1=100, v2=0), since=patch(cluster, manifest))
        assert state["status"]["versions"][1]["shareMovedTo"] == ["v1"]
        assert condition(state, "Degraded")["message"] == "version v2 can't serve; its share goes to v1."
        assert set((await _serves(release, name, USERS[::4])).values()) == {"v1"}

        # It can again: each user comes back.
        versions[1]["decode"] = {"replicas": 1}
        await states.until(_serving(v1=70, v2=30), since=patch(cluster, manifest))
        assert await _serves(release, name, USERS[::4]) == {user: after[user] for user in USERS[::4]}

        # A third version whose image is not there.
        versions[0]["weight"] = 60
        versions.append(_version("v3", 10, image="ghcr.io/acme/worker:typo"))
        told = patch(cluster, manifest)
        state = await states.until(
            lambda state: (
                condition(state, "Progressing").get("status") == "False"
                and condition(state, "RouterReady")["status"] == "True"
            ),
            since=told,
        )
        assert condition(state, "Progressing")["message"] == (
            "version v3: image ghcr.io/acme/worker:typo can't be pulled (1 pod); v1 and v2 still serve all traffic. "
            "Fix spec.versions[2].image or remove v3."
        )
        assert state["status"]["versions"][2]["shareMovedTo"] == ["v1", "v2"]
        assert condition(state, "Ready")["reason"] == "PartlyServing"
        assert set((await _serves(release, name, USERS[::4])).values()) == {"v1", "v2"}

        versions[0]["weight"] = 70
        del versions[2]
        await states.until(complete, since=patch(cluster, manifest))
    assert (
        pods.items() >= {pod: life for pod, life in lives(workers(cluster, manifest)).items() if "-v1-" in pod}.items()
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_the_older_of_two_services_has_the_models_name_until_it_is_deleted(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    older = _split(namespace, _version("v1", 100))
    younger = _split(namespace, _version("v2", 100))
    younger["metadata"]["name"] = "younger"
    name = older["spec"]["model"]
    apply(cluster, older)
    async with following(cluster, namespace, "split") as states:
        await states.until(complete)
    apply(cluster, younger)
    async with following(cluster, namespace, "younger") as states:
        state = await states.until(lambda state: condition(state, "Ready").get("reason") == "ModelNameTaken")
        assert condition(state, "Ready")["message"] == (
            f"Model name '{name}' belongs to InferenceService {namespace}/split, which is older. "
            "Delete that one, or make this one with another spec.model."
        )
        assert not workers(cluster, younger)
        assert set((await _serves(release, name, USERS[:20])).values()) == {"v1"}
        cluster.kubectl("delete", "inferenceservice", "split", "-n", namespace)
        await states.until(complete)
        assert set((await _serves(release, name, USERS[:20])).values()) == {"v2"}


def _split(namespace: str, *versions: Json) -> Json:
    """A service of decode workers alone, whose users stay with a version."""
    manifest = service("split", namespace, *versions, routing={"stickyBy": {"header": "x-user-id"}})
    del manifest["spec"]["prefill"]
    return manifest


def _version(name: str, weight: int, **fields: object) -> Json:
    return version(name, weight=weight, seed=SEEDS[name], **fields)


async def _serves(release: Release, name: str, users: Iterable[str]) -> dict[str, str]:
    """Which version serves each user, by the text that it gives."""
    texts = {(await answer(QUESTION, seed)).text: version for version, seed in SEEDS.items()}
    assert len(texts) == len(SEEDS)
    url = f"{release.url}/chat/completions"
    served = {}
    todo = iter(users)

    async def client(session: aiohttp.ClientSession) -> None:
        for user in todo:
            async with session.post(url, json=QUESTION.body(name),
                                    headers={"x-user-id": user}) as response:  # fmt: skip
                body = await response.json()
                assert response.status == 200, body
            served[user] = texts[body["choices"][0]["message"]["content"]]

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(client(session))
    return served


def _share(served: Mapping[str, str], version: str) -> float:
    return Counter(served.values())[version] / len(served)


def _serving(**wanted: int) -> Callable[[Json], bool]:
    """Whether routers act on these weights, and so many percent are really served."""

    def holds(state: Json) -> bool:
        found = {one["name"]: one.get("effectiveWeight", 0) for one in state["status"]["versions"]}
        return found == wanted and condition(state, "RouterReady").get("status") == "True"

    return holds
