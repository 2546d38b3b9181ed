"""Autoscaling on, through a rollout, and off again, with the chart's own adapter of external metrics."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.background import background_load
from tests.end_to_end.following import complete, condition
from tests.end_to_end.release import Release, installed
from tests.end_to_end.services import ENGINE, apply, model, patch, service

SECONDS = 120.0
METRICS = "apiservice/v1beta1.external.metrics.k8s.io"
SCALED = {"autoscaling": {"min": 1, "max": 2, "metrics": [{"name": "queueDepth", "target": "1"}]}}
CLIENTS = 8
SLOTS = 2
"""Of a worker: less than there are clients, so that requests queue."""


@pytest.fixture(scope="module")
def scaling(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    if cluster.control_plane is None:
        pytest.skip("would take a developer's cluster its external metrics")
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", metricsAdapter={"enabled": True}) as release:
        cluster.wait(METRICS, "Available", seconds=SECONDS)
        yield release


def elastic(namespace: str, seed: int, **decode: Any) -> dict[str, Any]:
    """The service, whose answers follow from `seed`."""
    engine = {"type": "virtual", "virtual": {**ENGINE, "seed": seed, "slots": SLOTS}}
    manifest = service("elastic", namespace, {"name": "v1", "engine": engine})
    manifest["spec"]["decode"] = decode
    # Requests wait for a place as long as their clients do.
    manifest["spec"]["routing"] = {"queue": {"timeout": "2m"}}
    return manifest


def until(found: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + SECONDS
    while not wanted(seen := found()):
        assert time.monotonic() < end, seen
        time.sleep(0.2)
    return seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_autoscalers_follow_the_load_stand_aside_in_rollouts_and_go_when_they_are_turned_off(
    cluster: Cluster, scaling: Release, namespace: str
) -> None:
    def state() -> dict[str, Any]:
        return dict(cluster.get("inferenceservice/elastic", namespace=namespace))

    def decode() -> dict[str, int]:
        """Replicas by Deployment."""
        found = cluster.get("deployments", "-l", "tandem.dev/role=decode", namespace=namespace)["items"]
        return {one["metadata"]["name"]: one["spec"]["replicas"] for one in found}

    def targets() -> list[str]:
        found = cluster.get("hpa", namespace=namespace)["items"]
        return [one["spec"]["scaleTargetRef"]["name"] for one in found]

    def scaling_is(reason: str) -> Callable[[dict[str, Any]], bool]:
        return lambda found: condition(found, "ScalingReady").get("reason") == reason

    apply(cluster, elastic(namespace, 0, **SCALED))
    until(state, complete)
    (first,) = decode()
    with background_load(cluster, scaling.url, model("elastic", namespace), clients=CLIENTS, seeds=(0, 1)) as load:
        until(state, scaling_is("Autoscaling"))
        assert targets() == [first]
        counts = []

        def counted() -> dict[str, int]:
            found = decode()
            counts.append(found[first])
            return found

        until(counted, lambda found: found == {first: 2})
        assert counts == sorted(counts)  # nobody took back what the autoscaler gave
        until(state, complete)

        # The node has no disk: the rollout goes no further until that is taken back.
        load.answered_by(0, 1)
        patch(cluster, elastic(namespace, 1, **SCALED, nodeSelector={"disk": "fast"}))
        until(state, scaling_is("SetAside"))
        until(targets, lambda found: not found)
        assert decode()[first] == 2
        patch(cluster, elastic(namespace, 1, **SCALED, nodeSelector=None))
        until(state, lambda found: complete(found) and scaling_is("Autoscaling")(found))
        ((second, replicas),) = decode().items()
        assert second != first
        assert replicas == 2
        assert targets() == [second]
        load.answered_by(1)
        load.grows(CLIENTS)
    assert not load.faults, "\n".join(load.faults)

    patch(cluster, elastic(namespace, 1, autoscaling=None, replicas=1))
    until(targets, lambda found: not found)
    until(decode, lambda found: found == {second: 1})
    until(state, lambda found: complete(found) and scaling_is("Fixed")(found))
