"""A router in a cluster: what a real API server says of services and endpoints is what it serves."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tandem_api.topology import ServiceRoutes, Topology
from tandem_router.discovery import NoCluster
from tandem_router.discovery.connecting import connector
from tandem_router.discovery.kubernetes import KubernetesSource

from tests.cluster.cluster import Cluster
from tests.router.fake_worker import FakeWorker
from tests.router.house import House, OpenHouse, fake, following
from tests.router.kubernetes_objects import endpoint, install_crd, revision, say, service, slice_of, version


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    install_crd(cluster)
    return cluster


@pytest.fixture(autouse=True)
def as_administrator(cluster: Cluster, inside_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))


class Told:
    """What a source tells of one namespace."""

    def __init__(self, namespace: str, topologies: "asyncio.Queue[Topology]") -> None:
        self.namespace = namespace
        self.latest = Topology()
        self._topologies = topologies

    @property
    def services(self) -> dict[str, ServiceRoutes]:
        return {s.name: s for s in self.latest.services if s.namespace == self.namespace}

    async def until(self, holds: Callable[[dict[str, ServiceRoutes]], object]) -> dict[str, ServiceRoutes]:
        async with asyncio.timeout(60):
            while not holds(self.services):
                self.latest = await self._topologies.get()
        return self.services


@asynccontextmanager
async def told_of(namespace: str, *namespaces: str) -> AsyncIterator[Told]:
    async with following(KubernetesSource(connector(), namespaces)) as topologies:
        yield Told(namespace, topologies)


async def test_status_and_slices_become_the_topology(installed: Cluster, namespace: str) -> None:
    routing = {"policy": "roundRobin", "queue": {"maxWaiting": 7, "timeout": "3s"}}
    rollout = {"maxSurge": 0, "maxUnavailable": 1, "queueTimeout": "1m30s"}
    installed.apply(
        service(namespace=namespace, model="org/m", routing=routing, rollout=rollout),
        slice_of(endpoint("p0", "10.77.1.1"), namespace=namespace, role="prefill"),
        slice_of(
            endpoint("d0", "10.77.1.2", ready=False),
            endpoint("d1", "10.77.1.3", ready=False, terminating=True),
            namespace=namespace,
        ),
        slice_of(endpoint("d2", "10.77.1.4"), namespace=namespace, revision="r0"),
        namespace=namespace,
    )
    split = [
        version("v1", revision("r1", disaggregated=True), revision("r0", traffic=False), weight=90, held=True),
        version("v2", weight=10),
    ]
    observed = say(installed, namespace, "m", *split)
    async with told_of(namespace) as told:
        found = (await told.until(lambda s: "m" in s and s["m"].observed == observed))["m"]
    assert (found.model, found.queue_timeout, found.created > 1.7e9) == ("org/m", 90.0, True)
    assert (found.routing.policy, found.routing.queue.max_waiting, found.routing.queue.timeout) == ("roundRobin", 7, 3)
    assert [(v.name, v.weight, v.held) for v in found.versions] == [("v1", 90, True), ("v2", 10, False)]
    assert [(r.name, r.disaggregated, r.traffic) for r in found.versions[0].revisions] == [
        ("r1", True, True),
        ("r0", False, False),
    ]
    workers = [w for r in found.versions[0].revisions for w in r.workers]
    assert [(w.name, w.role, w.address, w.ready, w.terminating) for w in workers] == [
        ("d0", "decode", "10.77.1.2:9000", False, False),
        ("d1", "decode", "10.77.1.3:9000", False, True),
        ("p0", "prefill", "10.77.1.1:9000", True, False),
        ("d2", "decode", "10.77.1.4:9000", True, False),
    ]


async def test_workers_of_a_revision_that_the_status_does_not_name_get_sessions_but_no_traffic(
    installed: Cluster, namespace: str
) -> None:
    comes = slice_of(endpoint("d1", "10.77.1.5"), namespace=namespace, revision="r2")
    installed.apply(service(namespace=namespace), comes, namespace=namespace)
    say(installed, namespace, "m", version())
    async with told_of(namespace) as told:
        found = await told.until(lambda s: "m" in s and s["m"].versions and s["m"].versions[0].revisions[1:])
    assert [(r.name, r.traffic, len(r.workers)) for r in found["m"].versions[0].revisions] == [
        ("r1", True, 0),
        ("r2", False, 1),
    ]


async def test_every_change_is_told(installed: Cluster, namespace: str) -> None:
    async with told_of(namespace) as told:
        installed.apply(service(namespace=namespace), namespace=namespace)
        await told.until(lambda s: "m" in s and not s["m"].versions)
        say(installed, namespace, "m", version())
        await told.until(lambda s: s["m"].versions)
        for name in ("d0", "d1"):
            installed.apply(slice_of(endpoint(name, "10.77.1.6"), namespace=namespace), namespace=namespace)
            await told.until(lambda s, n=name: [w.name for w in s["m"].versions[0].revisions[0].workers] == [n])
        installed.kubectl("delete", "endpointslice", "m-v1-decode-r1", "-n", namespace)
        await told.until(lambda s: not s["m"].versions[0].revisions[0].workers)
        installed.kubectl("delete", "inferenceservice", "m", "-n", namespace)
        await told.until(lambda s: "m" not in s)


async def test_of_two_services_with_one_model_name_the_older_has_it(installed: Cluster, namespace: str) -> None:
    installed.apply(service("b", namespace, model="twice"), namespace=namespace)
    async with told_of(namespace) as told:
        await told.until(lambda s: "b" in s)
        # Ages are whole seconds.
        created = installed.get("inferenceservice", "b", namespace=namespace)["metadata"]["creationTimestamp"]
        while True:
            installed.apply(service("a", namespace, model="twice"), namespace=namespace)
            if installed.get("inferenceservice", "a", namespace=namespace)["metadata"]["creationTimestamp"] > created:
                break
            installed.kubectl("delete", "inferenceservice", "a", "-n", namespace)
        installed.apply(service("c", namespace), namespace=namespace)
        assert set(await told.until(lambda s: "c" in s)) == {"b", "c"}
        installed.kubectl("delete", "inferenceservice", "b", "-n", namespace)
        await told.until(lambda s: set(s) == {"a", "c"})


async def test_only_the_namespaces_that_are_named_are_followed(installed: Cluster, namespace: str) -> None:
    installed.apply(service("here", namespace), namespace=namespace)
    installed.apply(service("elsewhere", "default"))
    try:
        async with told_of(namespace, namespace, "kube-public") as told:
            await told.until(lambda s: "here" in s)
            assert [s.name for s in told.latest.services] == ["here"]
        async with told_of("default") as told:
            await told.until(lambda s: "elsewhere" in s)
    finally:
        installed.kubectl("delete", "inferenceservice", "elsewhere")


async def test_while_the_api_server_is_away_nothing_is_lost(installed: Cluster, namespace: str) -> None:
    if installed.control_plane is None:
        pytest.skip("the API server is not this test's to restart")
    installed.apply(
        service(namespace=namespace), slice_of(endpoint("d0", "10.77.1.7"), namespace=namespace), namespace=namespace
    )
    say(installed, namespace, "m", version())
    async with told_of(namespace) as told:
        await told.until(lambda s: "m" in s and s["m"].versions and s["m"].versions[0].revisions[0].workers)
        before = told.services
        for number in (signal.SIGTERM, signal.SIGKILL):
            # In this thread, for the program dies with the thread that started it: the source finds it gone, and back.
            installed.control_plane.restart_api_server(number)
            assert told.services == before
            name = f"d-{number}"
            installed.apply(slice_of(endpoint(name, "10.77.1.8"), namespace=namespace), namespace=namespace)
            await told.until(lambda s, n=name: [w.name for w in s["m"].versions[0].revisions[0].workers] == [n])
            before = told.services


# ---- the way there


@pytest.fixture
def account(installed: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service account's folder as a pod has it, with the rights that a router needs and no others."""
    rights = [
        {"apiGroups": ["tandem.dev"], "resources": ["inferenceservices"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "router", "namespace": namespace}}
    subject = {"kind": "ServiceAccount", "name": "router", "namespace": namespace}
    installed.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "router", "namespace": namespace}},
        {**rbac, "kind": "Role", "rules": rights},
        {
            **rbac,
            "kind": "RoleBinding",
            "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "router"},
        },
        namespace=namespace,
    )
    token = installed.kubectl("create", "token", "router", "-n", namespace).stdout
    config = json.loads(installed.kubectl("config", "view", "--raw", "-o", "json").stdout)["clusters"][0]["cluster"]
    host, _, port = config["server"].removeprefix("https://").rpartition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "namespace").write_text(namespace)
    (folder / "ca.crt").write_bytes(Path(config["certificate-authority"]).read_bytes())
    return folder


async def test_a_service_account_that_may_list_and_watch_both_is_enough(account: Path, namespace: str) -> None:
    async with following(KubernetesSource(connector(account), [namespace])) as told, asyncio.timeout(60):
        assert await told.get() == Topology()


async def test_a_token_that_was_replaced_is_read_again(account: Path, namespace: str, installed: Cluster) -> None:
    good = (account / "token").read_text()
    (account / "token").write_text("stale")
    async with following(KubernetesSource(connector(account), [namespace])) as told, asyncio.timeout(60):
        await asyncio.sleep(0.2)
        assert told.empty()
        (account / "token").write_text(good)
        assert await told.get() == Topology()


def test_without_any_way_to_a_cluster_it_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(NoCluster, match="KUBECONFIG"):
        connector(tmp_path)


# ---- a whole router


def slices(namespace: str, *workers: FakeWorker, **more: Any) -> list[dict[str, Any]]:
    """One slice for each worker, because each has a port of its own."""
    made = []
    for worker in workers:
        host, _, port = worker.endpoint.address.rpartition(":")
        one = endpoint(worker.name, host, **more)
        made.append(slice_of(one, namespace=namespace, role=worker.role, port=int(port), suffix=f"-{worker.name}"))
    return made


def worker_of(namespace: str, role: str, name: str) -> FakeWorker:
    made = fake(role, name)
    made.identity.service = f"{namespace}/m"
    made.identity.model = "m"
    made.identity.revision = "r1"
    return made


CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]}


async def status_of(h: House) -> dict[str, Any]:
    services = (await h.http.get("/tandem/v1/status")).json()["services"]
    found: dict[str, Any] = services[0]
    return found


async def test_a_router_serves_what_the_api_server_says(
    installed: Cluster, namespace: str, open_house: OpenHouse
) -> None:
    pair = worker_of(namespace, "prefill", "p0"), worker_of(namespace, "decode", "d0")
    installed.apply(service(namespace=namespace), namespace=namespace)
    source = KubernetesSource(connector(), [namespace])
    async with pair[0].serving("10.77.0.1:0"), pair[1].serving("10.77.0.1:0"), open_house(source=source) as h:
        await h.until(lambda: h.router.fleet.services)
        refused = await h.chat(CHAT)
        assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
        installed.apply(*slices(namespace, *pair), namespace=namespace)
        observed = say(installed, namespace, "m", version("v1", revision(disaggregated=True)))
        await h.workers_ready(2)
        assert (await h.chat(CHAT)).status_code == 200
        told = await status_of(h)
        assert (told["observed"], told["versions"][0]["revisions"]) == (observed, ["r1"])
        assert (await h.http.get("/readyz")).status_code == 200
        # Without traffic nothing begins; the sessions stay.
        say(installed, namespace, "m", version("v1", revision(disaggregated=True, traffic=False)))
        await h.until(lambda: h.router.fleet.services["m"].routes.observed != observed)
        assert (await h.chat(CHAT)).status_code == 503
        assert [w["connected"] for w in (await status_of(h))["versions"][0]["workers"]] == [True, True]
        assert (await status_of(h))["versions"][0]["revisions"] == []


async def test_a_terminating_worker_keeps_its_session_and_gets_no_calls(
    installed: Cluster, namespace: str, open_house: OpenHouse
) -> None:
    worker = worker_of(namespace, "decode", "d0")
    async with worker.serving("10.77.0.1:0"):
        installed.apply(service(namespace=namespace), *slices(namespace, worker), namespace=namespace)
        say(installed, namespace, "m", version())
        async with open_house(source=KubernetesSource(connector(), [namespace])) as h:
            await h.workers_ready(1)
            installed.apply(*slices(namespace, worker, ready=False, terminating=True), namespace=namespace)
            await h.workers_ready(0)
            assert (await h.chat(CHAT)).status_code == 503
            (seen,) = (await status_of(h))["versions"][0]["workers"]
            assert (seen["connected"], seen["ready"], seen["draining"]) == (True, False, True)
            assert len(worker.sessions) == 1


async def test_a_starting_router_waits_for_ready_endpoints_only(
    installed: Cluster, namespace: str, open_house: OpenHouse
) -> None:
    gone, coming = worker_of(namespace, "decode", "d0"), worker_of(namespace, "decode", "d1")
    async with gone.serving("10.77.0.1:0"), coming.serving("10.77.0.1:0"):
        await gone.die()
        await coming.die()
        installed.apply(
            service(namespace=namespace),
            *slices(namespace, gone),
            *slices(namespace, coming, ready=False),
            namespace=namespace,
        )
        say(installed, namespace, "m", version())
        source = KubernetesSource(connector(), [namespace])
        async with open_house(source=source, ready_after=1000) as h:
            await h.until(lambda: h.router.fleet.known)
            assert (await h.http.get("/readyz")).status_code == 503
            installed.apply(*slices(namespace, gone, ready=False), namespace=namespace)
            await h.until(lambda: h.router.ready)
            assert (await h.http.get("/readyz")).status_code == 200
