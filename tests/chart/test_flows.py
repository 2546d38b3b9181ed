"""The evaluator of NetworkPolicies, held against what networking.k8s.io/v1 says."""

from typing import Any

import pytest

from tests.chart.flows import Peer, allowed


def pod(name: str, namespace: str = "a", ip: str = "10.1.0.1", **labels: str) -> Peer:
    return Peer(name, ip, namespace, {"app": name, **labels}, {"name": namespace}, {"http": 8080})


def policy(namespace: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"podSelector": {}, **spec}}


WEB, DB, FAR = pod("web"), pod("db", ip="10.1.0.2"), pod("far", "b", "10.1.0.3")
OUTSIDE = Peer("outside", "192.0.2.7")


def test_pods_that_no_policy_selects_are_open() -> None:
    assert allowed([], OUTSIDE, WEB, 80)
    assert allowed([policy("b")], FAR, WEB, 80)
    assert allowed([policy(podSelector={"matchLabels": {"app": "db"}})], OUTSIDE, WEB, 80)


def test_a_policy_without_rules_lets_nobody_in_and_everything_out() -> None:
    assert not allowed([policy()], FAR, WEB, 80)
    assert allowed([policy()], WEB, OUTSIDE, 80)


def test_a_policy_of_egress_holds_egress() -> None:
    assert not allowed([policy(policyTypes=["Egress"])], WEB, OUTSIDE, 80)
    assert allowed([policy(policyTypes=["Egress"])], OUTSIDE, WEB, 80)


def test_an_egress_rule_makes_a_policy_of_both_directions_where_no_type_is_named() -> None:
    only = [policy(egress=[{"ports": [{"port": 53}]}])]
    assert not allowed(only, WEB, OUTSIDE, 80)
    assert not allowed(only, OUTSIDE, WEB, 80)


def test_a_connection_needs_both_ends() -> None:
    let_in = policy(podSelector={"matchLabels": {"app": "db"}}, ingress=[{}])
    keep_in = policy("b", policyTypes=["Egress"])
    assert allowed([let_in], FAR, DB, 80)
    assert not allowed([let_in, keep_in], FAR, DB, 80)


def test_policies_add_up() -> None:
    one = policy(ingress=[{"ports": [{"port": 80}]}])
    two = policy(ingress=[{"ports": [{"port": 81}]}])
    assert [port for port in (80, 81, 82) if allowed([one, two], FAR, WEB, port)] == [80, 81]


@pytest.mark.parametrize(
    ("peer", "sources"),
    [
        ({"podSelector": {}}, ["db"]),
        ({"podSelector": {"matchLabels": {"app": "far"}}}, []),
        ({"namespaceSelector": {}}, ["db", "far"]),
        ({"namespaceSelector": {"matchLabels": {"name": "b"}}}, ["far"]),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}, ["db"]),
        ({"namespaceSelector": {"matchLabels": {"name": "b"}}, "podSelector": {"matchLabels": {"app": "db"}}}, []),
        ({"ipBlock": {"cidr": "192.0.2.0/24"}}, ["outside"]),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, ["outside"]),
        ({"ipBlock": {"cidr": "::/0"}}, []),
    ],
    ids=str,
)
def test_a_peer_is(peer: dict[str, Any], sources: list[str]) -> None:
    policies = [policy(podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [peer]}])]
    assert [source.name for source in (DB, FAR, OUTSIDE) if allowed(policies, source, WEB, 80)] == sources


def test_several_peers_are_alternatives() -> None:
    peers = [{"podSelector": {}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]
    policies = [policy(ingress=[{"from": peers}])]
    assert [s.name for s in (DB, FAR, OUTSIDE) if allowed(policies, s, WEB, 80)] == ["db", "outside"]


@pytest.mark.parametrize(
    ("ports", "open_ports"),
    [
        ([{"port": 80}], [80]),
        ([{"port": 80, "endPort": 8080}], [80, 443, 8080]),
        ([{"port": "http"}], [8080]),
        ([{"port": "other"}], []),
        ([{"protocol": "UDP", "port": 80}], []),
        ([{"protocol": "TCP"}], [80, 443, 8080]),
        ([], [80, 443, 8080]),
    ],
    ids=str,
)
def test_a_port_is(ports: list[dict[str, Any]], open_ports: list[int]) -> None:
    policies = [policy(ingress=[{"ports": ports}])]
    assert [port for port in (80, 443, 8080) if allowed(policies, FAR, WEB, port)] == open_ports


def test_protocols_are_told_apart() -> None:
    policies = [policy(ingress=[{"ports": [{"protocol": "UDP", "port": 53}]}])]
    assert allowed(policies, FAR, WEB, 53, "UDP")
    assert not allowed(policies, FAR, WEB, 53)


@pytest.mark.parametrize(
    ("operator", "values", "selected"),
    [
        ("In", ["db", "x"], ["db"]),
        ("NotIn", ["db"], ["bare"]),
        ("Exists", [], ["db"]),
        ("DoesNotExist", [], ["bare"]),
    ],
)
def test_an_expression_selects(operator: str, values: list[str], selected: list[str]) -> None:
    bare = Peer("bare", "10.1.0.9", "a", {}, {"name": "a"})
    peer = {"podSelector": {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}}
    policies = [policy(podSelector={"matchLabels": {"app": "web"}}, ingress=[{"from": [peer]}])]
    assert [source.name for source in (DB, bare) if allowed(policies, source, WEB, 80)] == selected
