"""Which connections the NetworkPolicies of a service allow."""

from collections.abc import Mapping
from typing import Any

from tandem_api.inference_service import InferenceService
from tandem_operator.planning import Installation, Peer, Policies, Settings, resolve
from tandem_operator.planning.policies import policies

from tests.operator.making import service, version

ROUTER = {"app": "router"}
Labels = Mapping[str, str]


def made(asked: InferenceService, settings: Settings | None = None) -> tuple[dict[str, Any], ...]:
    allowed = Policies(Peer(pods=ROUTER), monitoring=({"podSelector": {"matchLabels": {"app": "prometheus"}}},))
    versions = [resolve(asked, one) for one in asked.spec.versions]
    return policies(asked, versions, Installation(settings=settings or Settings(), policies=allowed))


def worker(role: str, name: str = "llama", version: str = "v1") -> dict[str, str]:
    return {"tandem.dev/service": name, "tandem.dev/role": role, "tandem.dev/version": version}


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def allowed(found: tuple[dict[str, Any], ...], way: str, pod: Labels, other: Labels | None, port: int) -> bool:
    """Whether policies let `pod` be reached by (ingress), or reach (egress), `other` on a TCP port.

    No `other`: an address outside the cluster.
    """
    side = {"ingress": "from", "egress": "to"}[way]
    for policy in found:
        if not selects(policy["spec"]["podSelector"], pod):
            continue
        for rule in policy["spec"].get(way, ()):
            ports = any(
                one["protocol"] == "TCP" and one["port"] <= port <= one.get("endPort", one["port"])
                for one in rule["ports"]
            )
            peers = side not in rule or any(
                (
                    "ipBlock" in peer
                    if other is None
                    else selects(peer.get("podSelector", {"matchLabels": {"": ""}}), other)
                )
                for peer in rule[side]
            )
            if ports and peers:
                return True
    return False


def test_only_routers_reach_the_worker_protocol() -> None:
    found = made(service())
    for role in ("prefill", "decode"):
        assert allowed(found, "ingress", worker(role), ROUTER, 9000)
        for other in (worker("prefill"), worker("decode"), {"app": "client"}, None):
            assert not allowed(found, "ingress", worker(role), other, 9000)


def test_only_decode_workers_of_the_same_service_reach_prefills_kv() -> None:
    found = made(service(prefill={"parallelism": {"tensor": 2}}, decode={"parallelism": {"tensor": 2}}))
    for port in (9100, 9101):
        assert allowed(found, "ingress", worker("prefill"), worker("decode"), port)
        assert allowed(found, "egress", worker("decode"), worker("prefill"), port)
        for other in (worker("prefill"), worker("decode", "other"), ROUTER, None):
            assert not allowed(found, "ingress", worker("prefill"), other, port)
    assert not allowed(found, "ingress", worker("prefill"), worker("decode"), 9102)
    assert not allowed(found, "ingress", worker("decode"), worker("prefill"), 9100)


def test_nixl_has_its_ports_between_the_roles_and_nobody_else() -> None:
    found = made(service(kvTransfer={"connector": "nixl"}))
    assert allowed(found, "ingress", worker("prefill"), worker("decode"), 9101)
    for port in (40000, 60999):
        assert allowed(found, "ingress", worker("prefill"), worker("decode"), port)
        assert allowed(found, "ingress", worker("decode"), worker("prefill"), port)
        assert not allowed(found, "ingress", worker("prefill"), ROUTER, port)
    assert not allowed(made(service()), "ingress", worker("prefill"), worker("decode"), 40000)


def test_metrics_are_open_to_monitoring_and_health_to_no_pod() -> None:
    found = made(service())
    assert not allowed(found, "ingress", worker("decode"), ROUTER, 9001)
    assert allowed(found, "ingress", worker("decode"), {"app": "prometheus"}, 9002)
    assert not allowed(found, "ingress", worker("decode"), ROUTER, 9002)


def test_only_pods_that_fetch_a_model_reach_the_world() -> None:
    versions = [version(weight=50), version(name="v2", weight=50, engine={"type": "virtual"})]
    found = made(service(versions=versions))
    assert allowed(found, "egress", worker("decode"), None, 443)
    assert not allowed(found, "egress", worker("decode", version="v2"), None, 443)
    assert not allowed(found, "egress", worker("decode"), None, 22)


def test_names_are_resolved_and_traces_sent_where_that_is_set() -> None:
    plain, traced = (
        made(service(), Settings(env=env)) for env in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})
    )
    assert allowed(plain, "egress", worker("decode"), {"k8s-app": "kube-dns"}, 53)
    assert not allowed(plain, "egress", worker("decode"), {"app": "collector"}, 4318)
    assert allowed(traced, "egress", worker("decode"), {"app": "collector"}, 4318)


def test_aggregated_serving_moves_no_kv() -> None:
    (decode, downloads) = made(service(prefill=None))
    assert decode["metadata"]["name"] == "llama-decode"
    assert downloads["metadata"]["name"] == "llama-downloads"
    assert not allowed((decode,), "egress", worker("decode"), worker("prefill"), 9100)
