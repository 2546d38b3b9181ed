"""`kubectl wait --for=condition=Ready` means that a chat request succeeds at that moment, through whichever router.

A hundred times, four services at a time: each is made, scaled to nothing, and back. Meanwhile there are two routers,
then a third joins, then one is replaced, and in the end another one. A request has a connection of its own each time,
so that the Service chooses a router for it.
"""

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.asking import wait_ready
from tests.end_to_end.release import NAME, Release, installed
from tests.end_to_end.services import model, service

AT_ONCE = 4
SERVICES = 5
"""Of each of those that go on at once."""
RETURNS = 4
"""Of each service: its decode worker, then its prefill worker goes, and comes back."""
TIMES = AT_ONCE * SERVICES * (1 + RETURNS)
REQUESTS = 6
"""Each time, so that every router gets some."""
SECONDS = 120


@pytest.fixture(scope="module")
def two_routers(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", router={"replicas": 2}) as release:
        yield release


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ready_means_that_a_chat_succeeds_at_that_moment(
    cluster: Cluster, two_routers: Release, namespace: str
) -> None:
    progress = Progress()
    url = two_routers.url
    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        runs = [threads.submit(_come_and_go, cluster, url, namespace, f"s{n}", progress) for n in range(AT_ONCE)]
        changes = threads.submit(_change_routers, cluster, two_routers.namespace, progress)
        for run in runs:
            run.add_done_callback(lambda _: progress.end())
        for run in runs:
            run.result()
        changes.result()
    assert not progress.failures, "\n".join(progress.failures)
    assert progress.times == TIMES


class Progress:
    """How often a service has become ready, and what failed then."""

    def __init__(self) -> None:
        self.times = 0
        self.failures: list[str] = []
        self._changed = threading.Condition()
        self._ended = 0

    def count(self, failures: list[str]) -> None:
        with self._changed:
            self.times += 1
            self.failures += failures
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended += 1
            self._changed.notify_all()

    def wait(self, times: int) -> None:
        """Returns when so many times are over, or nobody is at it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self.times >= times or self._ended == AT_ONCE)


def _come_and_go(cluster: Cluster, url: str, namespace: str, run: str, progress: Progress) -> None:
    for number in range(SERVICES):
        name = f"{run}-{number}"
        cluster.apply(service(name, namespace), namespace=namespace)
        _ask_once_ready(cluster, url, namespace, name, progress)
        for turn in range(RETURNS):
            role = ("decode", "prefill")[turn % 2]
            _scale(cluster, namespace, name, role, 0)
            cluster.wait(f"inferenceservice/{name}", "Ready=false", namespace, seconds=SECONDS)
            _scale(cluster, namespace, name, role, 1)
            _ask_once_ready(cluster, url, namespace, name, progress)
        cluster.kubectl("delete", "inferenceservice", name, "-n", namespace, "--wait=false")


def _scale(cluster: Cluster, namespace: str, name: str, role: str, replicas: int) -> None:
    patch = json.dumps({"spec": {role: {"replicas": replicas}}})
    cluster.kubectl("patch", "inferenceservice", name, "-n", namespace, "--type=merge", "-p", patch)


def _ask_once_ready(cluster: Cluster, url: str, namespace: str, name: str, progress: Progress) -> None:
    body = {"model": model(name, namespace), "messages": [{"role": "user", "content": "?"}], "max_tokens": 2}
    wait_ready(cluster, namespace, name, SECONDS)
    failures = []
    with cluster.entered():
        for _ in range(REQUESTS):
            try:
                answer = httpx.post(f"{url}/chat/completions", json={**body, "stream": True}, timeout=60)
            except httpx.HTTPError as error:
                failures.append(f"{name}: {error!r}")
            else:
                if answer.status_code != 200 or not answer.text.endswith("data: [DONE]\n\n") or "error" in answer.text:
                    failures.append(f"{name}: {answer.status_code} {answer.text}")
    progress.count(failures)


def _change_routers(cluster: Cluster, namespace: str, progress: Progress) -> None:
    deployment = f"deployment/{NAME}-router"
    progress.wait(TIMES // 5)
    cluster.kubectl("scale", deployment, "-n", namespace, "--replicas=3")
    for share in (2 / 5, 3 / 5):
        progress.wait(int(TIMES * share))
        selector = "app.kubernetes.io/component=router"
        oldest = cluster.kubectl(
            *("get", "pods", "-n", namespace, "-l", selector, "--sort-by=.metadata.creationTimestamp"),
            *("-o", "jsonpath={.items[0].metadata.name}"),
        ).stdout
        cluster.kubectl("delete", "pod", oldest, "-n", namespace, "--wait=false")
