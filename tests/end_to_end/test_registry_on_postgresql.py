"""A registry of two replicas on PostgreSQL and S3, and its keys: with the database, and for a minute without it."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tests.cli.command import tandem
from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end import bucket
from tests.end_to_end.asking import streamed_chat, wait_ready
from tests.end_to_end.experimenting import (
    ANYBODY,
    asking,
    counted,
    experiment,
    experiment_of,
    routed,
    running,
)
from tests.end_to_end.following import Json, condition, following
from tests.end_to_end.postgres import Postgres
from tests.end_to_end.release import NAME, Release, installed
from tests.end_to_end.services import apply, lives, model, service
from tests.end_to_end.test_vllm import ARGS

SECONDS = 90.0
AWAY_SECONDS = 60.0
PAUSE_SECONDS = 0.2
"""Between some requests and the next: the machine has other things to do, too."""
REQUESTS = 12
"""Between two pauses."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("inside_cluster")]


@pytest.fixture(scope="module")
def database(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    if cluster.control_plane is None:
        pytest.skip("a database of the test's own has no address that a developer's cluster can reach")
    with Postgres(cluster, tmp_path_factory.mktemp("postgres") / "postgres.log") as database:
        yield database


@dataclass(frozen=True)
class House:
    """A release, and its installation's key."""

    release: Release
    key: str

    def tandem(self, *words: str | Path) -> str:
        """The command, through a router."""
        done = tandem(*words, "--url", self.url, TANDEM_API_KEY=self.key)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def url(self) -> str:
        """Of the routers."""
        return self.release.url.removesuffix("/v1")

    def routers(self) -> list[str]:
        """Where each of them is."""
        addresses = [pod["status"].get("podIP") for pod in self.release.routers()]
        return [f"http://{address}:8080" for address in addresses if address]


@pytest.fixture(scope="module")
def house(cluster: Cluster, cluster_node: ClusterNode, database: Postgres) -> Iterator[House]:
    """The chart with what docs/registry.md says of several replicas."""
    namespace = f"tandem-{secrets.token_hex(4)}"
    cluster.make_namespace(namespace)
    cluster.apply(
        _secret("tandem-postgres", {"url": database.url}), _secret("bucket", bucket.CREDENTIALS), namespace=namespace
    )
    registry = {
        "enabled": True,
        "replicas": 2,
        "database": {"urlSecret": "tandem-postgres"},
        "storage": {"url": f"s3://{bucket.NAME}/tandem", "secret": "bucket"},
    }
    with (
        bucket.bucket(cluster),
        installed(cluster, namespace, auth={"required": True}, registry=registry) as release,
    ):
        yield House(release, _read(cluster, namespace, "tandem-api-key", "api-key"))


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        yield http


def test_helm_migrated_the_database_before_two_registries_served_from_it(
    cluster: Cluster, cluster_node: ClusterNode, house: House
) -> None:
    registries = _registries(cluster, house)
    assert len(registries) == 2
    assert not any("--migrate" in pod["spec"]["containers"][0]["args"] for pod in registries.values())
    assert any((cluster_node.folder / "logs" / house.release.namespace).glob(f"{NAME}-migrations-*/migrate.log"))


@pytest.mark.vllm
def test_a_real_model_goes_through_the_registry_to_a_worker_that_answers(
    cluster: Cluster, house: House, namespace: str, tiny_llama: Path
) -> None:
    house.tandem("registry", "import", tiny_llama, "tiny", "files")
    told = [f"--engine-arg={one}" for one in ARGS]
    house.tandem("registry", "register", "tiny", "v1", "--artifact", "tiny/files", *told, "--activate")
    key = _read(cluster, house.release.namespace, "tandem-service-key", "service-key")
    cluster.apply(_secret("tandem-service-key", {"service-key": key}), namespace=namespace)
    wanted = {"name": "main", "source": "registry://tiny", "engine": {"type": "vllm"}}
    manifest = service("tiny", namespace, wanted)
    del manifest["spec"]["prefill"]
    apply(cluster, manifest)
    wait_ready(cluster, namespace, "tiny", seconds=400)
    assert streamed_chat(house.release.url, model("tiny", namespace), key=house.key, max_tokens=8)
    (state,) = cluster.get("inferenceservice", "tiny", namespace=namespace)["status"]["versions"]
    assert (state["follows"], state["registered"]) == ("registry://tiny", "tiny/v1")
    (revision,) = state["revisions"]
    assert revision["source"].startswith("registry://tiny/v1?sha256=")
    assert revision["registeredArgs"] == ARGS
    assert f"{namespace}/tiny/" in house.tandem("registry", "show", "tiny/v1")


async def test_a_key_holds_on_every_router_for_what_it_is_for_until_it_is_revoked(
    house: House, http: httpx.AsyncClient
) -> None:
    key = house.tandem("keys", "create", "reader", "--scope", "read_only")
    routers = house.routers()
    assert len(routers) == 2
    for router in routers:
        await _until(http, f"{router}/v1/models", key, 200)
        refused = await _get(http, f"{router}/admin/v1/keys", key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    house.tandem("keys", "revoke", "reader")
    for router in routers:
        await _until(http, f"{router}/v1/models", key, 401)
        with (
            openai.OpenAI(base_url=f"{router}/v1", api_key=key, max_retries=0) as client,
            pytest.raises(openai.AuthenticationError, match="invalid API key"),
        ):
            client.models.list()


async def test_a_keys_own_limit_holds(house: House, http: httpx.AsyncClient) -> None:
    key = house.tandem("keys", "create", "slow", "--scope", "inference", "--requests-per-minute", "1")
    router = house.routers()[0]
    await _until(http, f"{router}/v1/models", key, 200)
    asked = {"model": "virtual-gpt-4", "messages": [{"role": "user", "content": "Hello"}]}
    shown = {"authorization": f"Bearer {key}"}
    answers = [await http.post(f"{router}/virtual/v1/chat/completions", json=asked, headers=shown) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429], answers[0].text
    assert int(answers[1].headers["retry-after"]) > 0


async def test_a_database_that_is_away_for_a_minute_costs_no_request_no_count_and_no_outcome(
    cluster: Cluster, house: House, database: Postgres, namespace: str, http: httpx.AsyncClient
) -> None:
    for name, commit in (("v1", "a" * 40), ("v2", "b" * 40)):
        house.tandem("registry", "register", "llama", name, "--source", f"hf://acme/llama@{commit}")
    house.tandem("registry", "activate", "llama", "v1")
    key = house.tandem("keys", "create", "team", "--scope", "inference")
    for router in house.routers():
        await _until(http, f"{router}/v1/models", key, 200)
    # A margin of nothing: equal versions are told apart by nobody, and the split stays.
    manifest = experiment(namespace, weight=50, decide=[{"metric": "errorRate"}])
    champion, challenger = manifest["spec"]["versions"]
    champion["source"], challenger["source"] = "registry://llama", "registry://llama/v2"
    apply(cluster, manifest)
    async with following(cluster, namespace, "tried") as states, asking(house.release, manifest, key) as clients:
        state = await states.until(running)
        registries = lives(_registries(cluster, house))
        database.stop()
        async with asyncio.TaskGroup() as tasks:
            away = tasks.create_task(asyncio.sleep(AWAY_SECONDS))
            tasks.create_task(states.until(_source_in_doubt))
            tasks.create_task(_until(http, f"{house.release.url}/models", "tandem_made-a-moment-ago", 503))
            started = tasks.create_task(_replaced_router(cluster, house, http))
            while not away.done():
                answer = await _get(http, f"{house.url}/admin/v1/registry/models", house.key)
                assert answer.status_code == 503, answer.text
                await clients.all(ANYBODY * REQUESTS)
                await asyncio.sleep(PAUSE_SECONDS)
        # It would have to know the keys.
        assert (await _get(http, f"{started.result()}/readyz", key)).status_code == 503

        # All of it counts, and the experiment ends, with nobody there to be told.
        state = await states.until(counted(clients.served))
        cluster.kubectl("annotate", "inferenceservice", "tried", "-n", namespace, "tandem.dev/experiment=abort")
        await states.until(lambda state: experiment_of(state).phase == "RolledBack" and routed(state))
        await clients.all(ANYBODY * REQUESTS)

        database.start()
        await _until(http, f"{started.result()}/readyz", key, 200)
        for router in house.routers():
            outcome = f"{router}/admin/v1/experiments/{experiment_of(state).id}/outcome"
            told = await _until(http, outcome, house.key, 200)
            assert told.json()["outcome"] == "rolledBack"
        await states.until(lambda state: condition(state, "Degraded").get("status") == "False")
    # Nobody took it for the registries' own fault.
    assert lives(_registries(cluster, house)) == registries


def _secret(name: str, data: dict[str, str]) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def _read(cluster: Cluster, namespace: str, name: str, key: str) -> str:
    """What a Secret has."""
    return base64.b64decode(cluster.get("secret", name, namespace=namespace)["data"][key]).decode()


def _registries(cluster: Cluster, house: House) -> dict[str, Json]:
    """The registries' pods, by name."""
    found = cluster.get("pods", "-l", "app.kubernetes.io/component=registry", namespace=house.release.namespace)
    return {pod["metadata"]["name"]: pod for pod in found["items"]}


def _source_in_doubt(state: Json) -> bool:
    return condition(state, "Degraded").get("reason") == "SourceNotFollowed"


async def _get(http: httpx.AsyncClient, url: str, key: str) -> httpx.Response:
    return await http.get(url, headers={"authorization": f"Bearer {key}"})


async def _until(http: httpx.AsyncClient, url: str, key: str, status: int) -> httpx.Response:
    """The first answer that has this status."""
    async with asyncio.timeout(SECONDS):
        while (answer := await _get(http, url, key)).status_code != status:
            await asyncio.sleep(0.1)
    return answer


async def _replaced_router(cluster: Cluster, house: House, http: httpx.AsyncClient) -> str:
    """Ends a router; returns where the one in its place is, once that answers."""
    before = house.routers()
    name = house.release.routers()[0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", name, "-n", house.release.namespace, "--wait=false")
    async with asyncio.timeout(SECONDS):
        while True:
            for router in set(house.routers()) - set(before):
                with suppress(httpx.TransportError):
                    await http.get(f"{router}/healthz")
                    return router
            await asyncio.sleep(0.2)
