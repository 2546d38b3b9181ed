"""What people change by hand of what the operator owns, on a real API server."""

import json
from typing import Any

from tests.operator_live.platform import CHILDREN, Json, Platform, service, until

HANDS: dict[str, Json] = {
    "Service": {"spec": {"publishNotReadyAddresses": True}},
    "PodDisruptionBudget": {"spec": {"maxUnavailable": 0}},
    "NetworkPolicy": {"spec": {"ingress": [{}]}},
    "ServiceAccount": {"automountServiceAccountToken": True},
    "HorizontalPodAutoscaler": {"spec": {"maxReplicas": 9}},
}
"""By kind, what somebody makes of one of them."""


def test_what_a_user_changes_is_put_back_and_what_a_user_adds_stays(platform: Platform) -> None:
    platform.apply(service(decode={"autoscaling": {"min": 1, "max": 2}}))
    with platform.operator(networkPolicies={"enabled": True}) as operator:
        operator.settled()
        before = _content(platform)
        victims = dict(sorted(before))
        assert victims.keys() >= HANDS.keys()
        for kind, change in HANDS.items():
            _patch(platform, kind, victims[kind], change)
            _patch(platform, kind, victims[kind], {"metadata": {"annotations": {"example.com/note": "mine"}}})
        until(lambda: _content(platform) == before)
        operator.settled()
        found = {(one["kind"], one["metadata"]["name"]): one["metadata"] for one in platform.list(CHILDREN)}
        for kind in HANDS:
            assert found[kind, victims[kind]]["annotations"]["example.com/note"] == "mine"


def test_settings_of_a_worker_can_not_be_changed_by_hand(platform: Platform) -> None:
    platform.apply(service())
    with platform.operator() as operator:
        operator.settled()
        name = platform.list("configmaps")[0]["metadata"]["name"]
        change = json.dumps({"data": {"config.json": "{}"}})
        said = platform.cluster.kubectl(
            "patch", "configmap", name, "-n", platform.namespace, "-p", change, check=False
        ).stderr
    assert "immutable" in said


def _content(platform: Platform) -> dict[tuple[str, str], Any]:
    """What each child says, by kind and name, but for what Kubernetes and people write about it."""
    return {
        (one["kind"], one["metadata"]["name"]): {
            name: part for name, part in one.items() if name not in ("metadata", "status")
        }
        for one in platform.list(CHILDREN)
    }


def _patch(platform: Platform, kind: str, name: str, change: Json) -> None:
    platform.cluster.kubectl(
        "patch", kind.lower(), name, "-n", platform.namespace, "--type=merge", "-p", json.dumps(change)
    )
