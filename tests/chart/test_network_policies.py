"""Between the pods exactly the flows of docs/security.md are open, over all pairs and ports."""

from typing import Any

import pytest

from tests.chart.flows import Peer, Policy, allowed
from tests.chart.rendering import NAMESPACE, Chart
from tests.chart.world import (
    ADAPTER,
    API_SERVER,
    CLIENT,
    DNS,
    EVERYBODY,
    INTERNET,
    OPERATOR,
    PORTS,
    PROMETHEUS,
    REGISTRY,
    ROUTER,
    SPY,
    TEST,
    pod,
)

TIGHT: dict[str, Any] = {"apiServer": {"cidrs": [f"{API_SERVER.ip}/32"]}}
POSTGRES: dict[str, Any] = {
    "enabled": True,
    "database": {"urlSecret": "postgres"},
    "storage": {"url": "s3://bucket"},
}
WHOLE: dict[str, Any] = {"metricsAdapter": {"enabled": True}, "registry": POSTGRES}
OURS = (ROUTER, OPERATOR, REGISTRY, ADAPTER)
Flow = tuple[str, str, int]


def policies_of(chart: Chart, **settings: Any) -> list[Policy]:
    return list(chart.render(WHOLE | {"networkPolicies": TIGHT | settings}).of("NetworkPolicy"))


def flows(policies: list[Policy], ours: tuple[Peer, ...] = OURS) -> set[Flow]:
    """Source, target and port of all open connections with one of ours at an end."""
    return {
        (source.name, target.name, port)
        for source in EVERYBODY
        for target in EVERYBODY
        for port in PORTS
        if source != target and (source in ours or target in ours) and allowed(policies, source, target, port)
    }


def _each(sources: tuple[Peer, ...], target: Peer, *ports: int) -> set[Flow]:
    return {(source.name, target.name, port) for source in sources for port in ports if source != target}


# TEST, in the release's namespace, is held by no policy; nor is anybody else who is not ours.
_CLIENTS = tuple(peer for peer in EVERYBODY if peer not in (ROUTER, REGISTRY, ADAPTER))
_OTHERS = tuple(peer for peer in EVERYBODY if peer not in OURS)
EXPECTED = {
    *_each(_CLIENTS, ROUTER, 8080),
    *_each((ADAPTER,), ROUTER, 8080),
    *_each((PROMETHEUS,), OPERATOR, 8082),
    *_each((API_SERVER,), ADAPTER, 6443),
    *_each((ROUTER, OPERATOR, ADAPTER), API_SERVER, 443, 6443),
    *_each((ROUTER, OPERATOR, PROMETHEUS, SPY), REGISTRY, 8090),  # workers of all services may fetch
    *{(REGISTRY.name, other.name, 5432) for other in _OTHERS},  # a database may be anywhere, at its port
    *_each((REGISTRY,), INTERNET, 443),
    *_each(OURS, DNS, 53),
    *_each((ROUTER,), SPY, 9000),  # workers of all services are the routers' business
    *_each((OPERATOR,), INTERNET, 443),
}


def test_exactly_the_listed_flows_are_open(chart: Chart) -> None:
    found = flows(policies_of(chart))
    assert found - EXPECTED == set()
    assert EXPECTED - found == set()


def test_dns_is_asked_by_udp_too(chart: Chart) -> None:
    policies = policies_of(chart)
    assert all(allowed(policies, peer, DNS, 53, "UDP") for peer in OURS)
    assert not any(allowed(policies, peer, CLIENT, 53, "UDP") for peer in OURS)


def test_named_clients_alone_reach_the_routers_beside_what_runs_the_platform(chart: Chart) -> None:
    apps = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}}}]
    found = {source for source, target, _ in flows(policies_of(chart, clients=apps)) if target == ROUTER.name}
    assert found == {"client", "impostor", "operator", "adapter", "prometheus", "helm-test"}


def test_monitoring_of_ones_own_replaces_the_common_one(chart: Chart) -> None:
    own = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "apps"}}}]
    found = {source for source, target, port in flows(policies_of(chart, monitoring=own)) if target == OPERATOR.name}
    assert found == {"client", "impostor"}


def test_nobody_reads_metrics_of_the_operator_where_nobody_is_named(chart: Chart) -> None:
    assert [flow for flow in flows(policies_of(chart, monitoring=[])) if flow[1] == OPERATOR.name] == []


def test_a_registry_with_sqlite_and_a_folder_speaks_with_nobody(chart: Chart) -> None:
    rendered = chart.render({"registry": {"enabled": True}, "networkPolicies": TIGHT}).of("NetworkPolicy")
    reached = {(peer.name, port) for peer in EVERYBODY for port in PORTS if allowed(rendered, REGISTRY, peer, port)}
    assert reached == {(DNS.name, 53)}


@pytest.mark.parametrize(
    ("url", "port"), [("http://r.models.svc", 80), ("https://r.example/x", 443), ("http://r:8090/x", 8090)]
)
def test_another_installations_registry_is_reached_by_its_port(chart: Chart, url: str, port: int) -> None:
    other = Peer("other", "10.9.9.9")
    rendered = chart.render({"registry": {"url": url}, "networkPolicies": TIGHT}).of("NetworkPolicy")
    for peer in (ROUTER, OPERATOR):
        assert [p for p in (80, 443, 8090) if allowed(rendered, peer, other, p)] == [port], peer.name


def test_migrations_reach_names_and_the_database_alone(chart: Chart) -> None:
    labels = {**REGISTRY.labels, "app.kubernetes.io/component": "migrations"}
    job = pod("migrations", NAMESPACE, labels)
    policies = policies_of(chart)
    reached = {(peer.name, port) for peer in EVERYBODY for port in PORTS if allowed(policies, job, peer, port)}
    assert reached == {(DNS.name, 53), *((other.name, 5432) for other in _OTHERS)}
    assert not any(allowed(policies, peer, job, port) for peer in EVERYBODY for port in PORTS)


def test_without_downloads_the_operator_stays_inside(chart: Chart) -> None:
    closed = policies_of(chart, downloads={"cidrs": []})
    assert not any(allowed(closed, OPERATOR, INTERNET, port) for port in PORTS)


def test_a_network_of_ones_own_is_not_split_by_the_exceptions_of_others(chart: Chart) -> None:
    mirror = policies_of(chart, downloads={"cidrs": ["10.9.0.0/16", "198.51.100.0/24"]})
    blocks = [
        peer["ipBlock"]
        for policy in mirror
        for rule in policy["spec"].get("egress", ())
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]
    assert {"cidr": "10.9.0.0/16"} in blocks
    assert allowed(mirror, OPERATOR, INTERNET, 443)


def test_further_egress_is_everyones(chart: Chart) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}], "ports": [{"protocol": "TCP", "port": 4317}]}
    policies = policies_of(chart, extraEgress=[rule])
    collector = Peer("collector", "10.9.9.9")
    assert all(allowed(policies, peer, collector, 4317) for peer in OURS)
    assert not any(allowed(policies, peer, collector, 4318) for peer in OURS)


@pytest.mark.parametrize(("endpoint", "port"), [("http://collector.obs:5317", 5317), ("https://collector.obs", 4317)])
def test_routers_reach_a_collector_of_traces_by_its_port(chart: Chart, endpoint: str, port: int) -> None:
    rendered = chart.render({"otlpEndpoint": endpoint, "networkPolicies": TIGHT})
    collector = Peer("collector", "10.9.9.9")
    reached = [p for p in (80, 4317, 5317) if allowed(rendered.of("NetworkPolicy"), ROUTER, collector, p)]
    assert reached == [port]


def test_by_default_the_api_server_may_be_anywhere_on_its_own_ports(chart: Chart) -> None:
    policies = list(chart.render().of("NetworkPolicy"))
    assert allowed(policies, ROUTER, Peer("other", "203.0.113.9"), 6443)
    assert not allowed(policies, ROUTER, Peer("other", "203.0.113.9"), 80)


def test_a_namespaced_installation_reaches_workers_of_its_namespaces_alone(chart: Chart) -> None:
    def reached(namespaces: list[str]) -> bool:
        rendered = chart.render({"namespaces": namespaces, "networkPolicies": TIGHT})
        return allowed(rendered.of("NetworkPolicy"), ROUTER, SPY, 9000)

    assert reached(["team-a"])
    assert not reached(["team-b"])


def test_no_policies_where_none_are_wanted(chart: Chart) -> None:
    rendered = chart.render({"networkPolicies": {"enabled": False}, "metricsAdapter": {"enabled": True}})
    assert rendered.of("NetworkPolicy") == []
    assert rendered.settings["networkPolicies"]["enabled"] is False


def test_every_pod_of_the_platform_is_held_both_ways(chart: Chart) -> None:
    who = ("router", "operator", "adapter", "registry", "migrations")
    held = {
        policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: policy["spec"]["policyTypes"]
        for policy in policies_of(chart)
    }
    assert held == {name: ["Ingress", "Egress"] for name in who}


@pytest.mark.parametrize("peer", [TEST, CLIENT], ids=lambda peer: peer.name)
def test_whoever_asks_gets_an_answer(chart: Chart, peer: Peer) -> None:
    assert allowed(policies_of(chart), peer, ROUTER, 8080)
