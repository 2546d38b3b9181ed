"""What befalls a platform under load: no stream is cut, no request refused, and all is well afterwards."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.end_to_end.background import BackgroundLoad, background_load
from tests.end_to_end.following import complete, rolling
from tests.end_to_end.release import NAME, Release
from tests.end_to_end.services import model, service, version

CLIENTS = 6
SOME = 20
"""Answers: of the shortest and of some that take seconds."""
SECONDS = 180.0
SERVICE = "inferenceservice/busy"


@pytest.fixture
def busy(cluster: Cluster, release: Release, namespace: str) -> str:
    """A service that is ready; its namespace."""
    cluster.apply(service("busy", namespace, decode=2), namespace=namespace)
    cluster.wait(SERVICE, "Ready", namespace, seconds=SECONDS)
    return namespace


def until(cluster: Cluster, namespace: str, wanted: Callable[[dict[str, Any]], Any]) -> None:
    """Waits for a state of the service; fails with the last one."""
    end = time.monotonic() + SECONDS
    while not wanted(state := cluster.get(SERVICE, namespace=namespace)):
        assert time.monotonic() < end, json.dumps(state["status"], indent=1)
        time.sleep(0.1)


def workers(cluster: Cluster, namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in cluster.get("pods", namespace=namespace)["items"]}


def goes_on(load: BackgroundLoad) -> None:
    load.grows(SOME)
    assert not load.faults, "\n".join(load.faults)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rolling_update_of_the_routers_cuts_no_stream_and_refuses_no_request(
    cluster: Cluster, release: Release, busy: str
) -> None:
    before = workers(cluster, busy)
    with background_load(cluster, release.url, model("busy", busy), clients=CLIENTS) as load:
        goes_on(load)
        deployment = f"deployment/{NAME}-router"
        cluster.kubectl("rollout", "restart", deployment, "-n", release.namespace)
        cluster.kubectl("rollout", "status", deployment, "-n", release.namespace, f"--timeout={SECONDS}s", timeout=200)
        goes_on(load)
    assert not load.faults, "\n".join(load.faults)
    assert workers(cluster, busy) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_api_server_that_restarts_while_requests_are_served_and_in_a_rollout_costs_none(
    cluster: Cluster, release: Release, busy: str
) -> None:
    if cluster.control_plane is None:
        pytest.skip("ends the API server")
    with background_load(cluster, release.url, model("busy", busy), clients=CLIENTS, seeds=(0, 1)) as load:
        goes_on(load)
        before = workers(cluster, busy)
        cluster.control_plane.restart_api_server(signal.SIGTERM)
        goes_on(load)
        assert workers(cluster, busy) == before

        load.answered_by(0, 1)
        cluster.apply(service("busy", busy, version(seed=1), decode=2), namespace=busy)
        until(cluster, busy, rolling)
        cluster.control_plane.restart_api_server(signal.SIGKILL)
        until(cluster, busy, complete)
        assert not load.faults, "\n".join(load.faults)
        load.answered_by(1)
        goes_on(load)
        # Some have given up their work, and are about to go.
        until(cluster, busy, lambda _: not workers(cluster, busy) & before)
    assert not load.faults, "\n".join(load.faults)
