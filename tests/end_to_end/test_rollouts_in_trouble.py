"""What a rollout does when something is missing: GPUs, an image, the operator."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.conservation.shots import Ask
from tests.end_to_end.following import SECONDS, Json, complete, condition, following, rolling
from tests.end_to_end.load import loaded
from tests.end_to_end.release import CHART, NAME, Release
from tests.end_to_end.services import answer, apply, lives, patch, service, version, workers

IMAGE = "ghcr.io/tandem-serving/tandem-worker-virtual"
GPUS = "nvidia.com/gpu"
QUESTION = Ask("Who are you?", seed=7, max_tokens=3, stream=False, chat=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("inside_cluster")]


@pytest.fixture
def two_gpus(cluster_node: ClusterNode) -> Iterator[None]:
    """The node has no more than a pair needs."""
    cluster_node.offer(**{GPUS: "2"})
    yield
    cluster_node.offer(**{GPUS: "8"})


@pytest.mark.usefixtures("two_gpus")
async def test_requests_wait_while_scarce_gpus_leave_no_pair(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    manifest = _scarce(namespace, "2m")
    apply(cluster, manifest)
    async with following(cluster, namespace, "scarce") as states:
        await states.until(complete)
        async with loaded(release.url, manifest["spec"]["model"], clients=4) as load:
            manifest["spec"]["versions"][0]["image"] = f"{IMAGE}:1"
            told = await asyncio.to_thread(patch, cluster, manifest)
            state = await states.until(lambda state: condition(state, "Ready").get("reason") == "Held", since=told)
            assert state["status"]["versions"][0]["held"]
            revision = state["status"]["versions"][0]["revision"]
            assert condition(state, "Ready")["message"] == (
                f"version v1: maxSurge 0 leaves no pair until revision {revision} is up; "
                "requests wait up to 120s, then get 503."
            )
            await states.until(complete, since=told)
            await load.grows(4)
    assert not load.faults, load.faults[:5]


@pytest.mark.usefixtures("two_gpus")
async def test_who_waits_longer_than_the_queue_timeout_gets_503_and_when_to_come_again(
    cluster: Cluster, cluster_node: ClusterNode, release: Release, namespace: str
) -> None:
    manifest = _scarce(namespace, "500ms")
    url, body = f"{release.url}/chat/completions", QUESTION.body(manifest["spec"]["model"])
    apply(cluster, manifest)
    async with following(cluster, namespace, "scarce") as states, aiohttp.ClientSession() as session:
        await states.until(complete)
        cluster_node.offer(**{GPUS: "0"})  # the pair to come has no place until it is offered one
        manifest["spec"]["versions"][0]["image"] = f"{IMAGE}:1"
        told = patch(cluster, manifest)
        await states.until(lambda state: condition(state, "Ready").get("reason") == "Held", since=told)
        async with asyncio.timeout(SECONDS):
            while (refused := await _asked(session, url, body)).status == 200:
                pass  # a router that has yet to hear that the former pair is leaving
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "after 0.5 s in the queue" in (await refused.json())["error"]["message"]
        cluster_node.offer(**{GPUS: "2"})
        await states.until(complete, since=told)
        text = (await (await _asked(session, url, body)).json())["choices"][0]["message"]["content"]
    assert text == (await answer(QUESTION)).text


async def _asked(session: aiohttp.ClientSession, url: str, body: Json) -> aiohttp.ClientResponse:
    async with session.post(url, json=body) as response:
        await response.read()
    return response


async def test_a_broken_image_leaves_the_former_revision_serving_until_it_is_mended(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    manifest = service("broken", namespace, decode=2)
    apply(cluster, manifest)
    async with following(cluster, namespace, "broken") as states:
        former = (await states.until(complete))["status"]["versions"][0]["revision"]
        before = workers(cluster, manifest)
        first = len(states.states)
        async with loaded(release.url, manifest["spec"]["model"], clients=3) as load:
            manifest["spec"]["versions"][0]["image"] = f"{IMAGE}:typo"
            told = await asyncio.to_thread(patch, cluster, manifest)
            state = await states.until(
                lambda state: (
                    condition(state, "Progressing").get("status") == "False"
                    and "(2 pods)" in condition(state, "Progressing")["message"]
                ),
                since=told,
            )
            assert condition(state, "Progressing")["reason"] == "ImageUnavailable"
            assert condition(state, "Progressing")["message"] == (
                f"version v1: image {IMAGE}:typo can't be pulled (2 pods); its former revision {former} still serves. "
                "Fix spec.versions[0].image."
            )
            assert before.keys() <= (await asyncio.to_thread(workers, cluster, manifest)).keys()
            await load.grows(4)
            manifest["spec"]["versions"][0]["image"] = f"{IMAGE}:1"
            await states.until(complete, since=await asyncio.to_thread(patch, cluster, manifest))
            await load.grows(4)
    assert not load.faults, load.faults[:5]
    assert not [state for state in states.states[first:] if condition(state, "Ready").get("status") == "False"]


async def test_an_operator_that_is_killed_goes_on_where_the_spec_is_by_then(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    manifest = service("killed", namespace)
    apply(cluster, manifest)
    async with following(cluster, namespace, "killed") as states:
        await states.until(complete)
        async with loaded(release.url, manifest["spec"]["model"], clients=3, seeds=(0, 5)) as load:
            load.seeds = frozenset({0, 5})
            manifest["spec"]["versions"][0]["image"] = f"{IMAGE}:1"
            await states.until(rolling, since=await asyncio.to_thread(patch, cluster, manifest))
            await asyncio.to_thread(_kill_operator, cluster, release)
            manifest["spec"]["versions"][0] = version(seed=5)
            manifest["spec"]["decode"] = {"replicas": 2}
            await states.until(complete, since=await asyncio.to_thread(patch, cluster, manifest))
            load.seeds = frozenset({5})
            await load.grows(4)
    assert not load.faults, load.faults[:5]
    assert len(workers(cluster, manifest)) == 3


async def test_an_upgrade_of_the_chart_restarts_no_worker(cluster: Cluster, release: Release, namespace: str) -> None:
    manifest = service("upgraded", namespace)
    apply(cluster, manifest)
    async with following(cluster, namespace, "upgraded") as states:
        await states.until(complete)
        before = workers(cluster, manifest)
        async with loaded(release.url, manifest["spec"]["model"], clients=3) as load:
            await asyncio.to_thread(
                cluster.helm,
                *("upgrade", NAME, str(CHART), f"--namespace={release.namespace}", "--wait", "--timeout=180s"),
                *("--reuse-values", "--set=image.tag=0.2.0", "--set=logLevel=debug"),
                *("--set=otlpEndpoint=http://collector.observability:4317", "--set=imagePullSecrets[0].name=regcred"),
            )
            # The operator of the other release scales: it has looked at all, and its new worker is like the others.
            manifest["spec"]["decode"] = {"replicas": 2}
            await states.until(complete, since=await asyncio.to_thread(patch, cluster, manifest))
            await load.grows(4)
    assert not load.faults, load.faults[:5]
    after = workers(cluster, manifest)
    assert lives(before).items() < lives(after).items()
    assert {pod["spec"]["containers"][0]["image"] for pod in after.values()} == {
        pod["spec"]["containers"][0]["image"] for pod in before.values()
    }


def _scarce(namespace: str, timeout: str) -> Json:
    """A pair that has all GPUs there are."""
    gpu = {"replicas": 1, "resources": {"limits": {GPUS: 1}}}
    rollout = {"maxSurge": 0, "maxUnavailable": 1, "queueTimeout": timeout}
    manifest = service("scarce", namespace, rollout=rollout)
    manifest["spec"] |= {"prefill": gpu, "decode": gpu}
    return manifest


def _kill_operator(cluster: Cluster, release: Release) -> None:
    labels = "app.kubernetes.io/component=operator"
    cluster.kubectl("delete", "pod", "-n", release.namespace, "-l", labels, "--force", "--grace-period=0")
