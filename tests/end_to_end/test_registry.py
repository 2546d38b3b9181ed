"""The model registry of a release: versions are registered by the command line, and services follow them."""

import asyncio
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.cli.command import tandem
from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.following import Json, complete, following
from tests.end_to_end.load import loaded
from tests.end_to_end.release import Release, installed
from tests.end_to_end.services import apply, model, service, version


@pytest.fixture(scope="module")
def release(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    """The chart with a registry on SQLite, whose volume goes with its pod."""
    registry = {"enabled": True, "persistence": {"enabled": False}}
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", registry=registry) as release:
        yield release


def registry(release: Release, *words: str) -> str:
    """`tandem registry ...` through a router."""
    done = tandem("registry", *words, "--url", release.url.removesuffix("/v1"))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
async def test_an_activation_and_a_rollback_under_load_lose_no_request(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    for name, commit in (("v1", "a" * 40), ("v2", "b" * 40)):
        await asyncio.to_thread(registry, release, "register", "llama", name, "--source", f"hf://acme/llama@{commit}")
    await asyncio.to_thread(registry, release, "activate", "llama", "v1")
    manifest = service("follower", namespace, version("main", source="registry://llama"))
    apply(cluster, manifest)

    def runs(registered: str) -> Callable[[Json], bool]:
        def holds(state: Json) -> bool:
            return complete(state) and state["status"]["versions"][0].get("registered") == registered

        return holds

    async with following(cluster, namespace, "follower") as states:
        first = await states.until(runs("llama/v1"))
        async with loaded(release.url, model("follower", namespace), clients=4) as load:
            await load.grows(10)
            await asyncio.to_thread(registry, release, "activate", "llama", "v2", "--reason", "better")
            second = await states.until(runs("llama/v2"))
            await load.grows(10)
            await asyncio.to_thread(registry, release, "rollback", "llama", "--reason", "worse")
            back = await states.until(runs("llama/v1"))
            await load.grows(10)
        assert load.faults == []
    revisions = [state["status"]["versions"][0]["revision"] for state in (first, second, back)]
    assert revisions[0] == revisions[2] != revisions[1]
    told = cluster.get("events", "--field-selector", "reason=VersionActivated", namespace=namespace)["items"]
    assert {event["message"].partition(": its")[0] for event in told} == {
        "version main: registry://llama stands for llama/v2, before for llama/v1",
        "version main: registry://llama stands for llama/v1, before for llama/v2",
    }
