"""Readiness gates and routers: a pod counts once every router can reach it, and not before."""

import time
from typing import Any

from tests.operator_live.fake_router import FakeRouter
from tests.operator_live.platform import Platform, service, until

ROUTABLE = "tandem.dev/Routable"


def _gate(platform: Platform, pod: str) -> Any:
    conditions = platform.get("pod", pod)["status"].get("conditions", ())
    return next((one for one in conditions if one["type"] == ROUTABLE), None)


def _ready_pods(platform: Platform) -> list[dict[str, Any]]:
    pods = until(lambda: found if len(found := platform.list("pods")) == 2 else [])
    for pod in pods:
        platform.containers_ready(pod["metadata"]["name"])
    return pods


def _connected(platform: Platform, router: FakeRouter, pods: list[dict[str, Any]]) -> None:
    """The router has sessions to the pods, and their gates are set."""

    def gated() -> bool:
        # It follows each write of the status, of which the first may be yet to come.
        router.says(platform.get("tisvc", "one"), pods)
        return all(_gate(platform, pod["metadata"]["name"]) for pod in pods)

    until(gated)


def test_a_gate_is_set_only_once_the_routers_report_a_session(platform: Platform) -> None:
    router = platform.router()
    platform.apply(service())
    with platform.operator() as operator:
        pods = _ready_pods(platform)
        router.says(platform.get("tisvc", "one"), pods, connected=False)
        looked = operator.looks()
        time.sleep(2)
        assert operator.looks() >= looked
        assert [_gate(platform, pod["metadata"]["name"]) for pod in pods] == [None, None]
        _connected(platform, router, pods)
    for pod in pods:
        conditions = {
            one["type"]: one["status"] for one in platform.get("pod", pod["metadata"]["name"])["status"]["conditions"]
        }
        # What the kubelet has said of the pod stays.
        assert conditions[ROUTABLE] == conditions["ContainersReady"] == "True"


def test_without_a_router_no_gate_is_set_and_the_status_says_so(platform: Platform) -> None:
    platform.apply(service())
    with platform.operator():
        pods = _ready_pods(platform)
        condition = until(lambda: platform.condition("one", "RouterReady"))
        time.sleep(2)
    assert condition["status"] == "False"
    assert [_gate(platform, pod["metadata"]["name"]) for pod in pods] == [None, None]


def test_a_gate_stays_set_when_a_router_is_lost(platform: Platform) -> None:
    router = platform.router()
    platform.apply(service())
    with platform.operator() as operator:
        pods = _ready_pods(platform)
        _connected(platform, router, pods)
        platform.delete("pod", router.name, "--force", "--grace-period=0")
        until(lambda: platform.condition("one", "RouterReady").get("status") == "False")
        operator.settled()
        assert all(_gate(platform, pod["metadata"]["name"])["status"] == "True" for pod in pods)


def test_a_service_is_ready_once_the_router_acts_on_its_status(platform: Platform) -> None:
    router = platform.router()
    platform.apply(service())
    with platform.operator() as operator:
        pods = _ready_pods(platform)

        def ready() -> bool:
            # A router follows each write of the status.
            router.says(platform.get("tisvc", "one"), pods)
            for pod in pods:
                if _gate(platform, pod["metadata"]["name"]):
                    name = pod["metadata"]["name"]
                    platform.set_status(name, conditions=[{"type": "Ready", "status": "True"}])
            return platform.condition("one", "Ready").get("status") == "True"

        until(ready)
        labels = {"namespace": platform.namespace, "service": "one", "condition": "Ready"}
        until(lambda: operator.metrics().get(("tandem_service_condition", frozenset(labels.items()))) == 1)
    assert platform.get("tisvc", "one")["status"]["url"] == "http://router.test/v1"
