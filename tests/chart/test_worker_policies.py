"""Around workers exactly the flows of docs/security.md are open: the chart's settings through the operator's plan."""

from itertools import product
from typing import Any

import pytest
from tandem_api.manifest import load
from tandem_operator.installed import installation_of
from tandem_operator.planning.names import ROLE, SERVICE, VERSION, service_labels
from tandem_operator.planning.policies import policies
from tandem_operator.planning.resolving import resolve
from tandem_operator.settings import OperatorSettings

from tests.chart.flows import Peer, Policy, allowed
from tests.chart.rendering import Chart
from tests.chart.test_network_policies import TIGHT
from tests.chart.world import (
    ADAPTER,
    API_SERVER,
    DATABASE,
    DNS,
    EVERYBODY,
    INTERNET,
    METADATA,
    OPERATOR,
    PORTS,
    PROMETHEUS,
    ROUTER,
    pod,
)

_SERVICE = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  versions: [{{name: v1, {engine}}}]
  {prefill}
  decode: {{replicas: 1}}
  kvTransfer: {{connector: {connector}}}
"""
VLLM, VIRTUAL = "source: 'hf://org/model'", "engine: {type: virtual}"
PAIR = "prefill: {replicas: 1, parallelism: {tensor: 2}}"


def made(chart: Chart, name: str, *, engine: str = VLLM, prefill: str = PAIR, connector: str = "grpc",
         namespace: str = "team-a", **values: Any) -> list[Policy]:  # fmt: skip
    """The policies of a service, as the operator makes them with the chart's settings."""
    rendered = chart.render({"networkPolicies": TIGHT | values.pop("networkPolicies", {}), **values})
    installation = installation_of(OperatorSettings.model_validate(rendered.settings, by_name=False))
    (service,) = load(
        _SERVICE.format(name=name, namespace=namespace, engine=engine, prefill=prefill, connector=connector)
    )
    versions = [resolve(service, version, installation.settings) for version in service.spec.versions]
    return [
        {**policy, "metadata": {**policy["metadata"], "namespace": namespace}}
        for policy in policies(service, versions, installation)
    ]


def worker(service: str, role: str, namespace: str = "team-a", name: str = "") -> Peer:
    labels = {**service_labels(service), "app.kubernetes.io/name": "tandem-worker"}
    labels |= {SERVICE: service, VERSION: "v1", ROLE: role}
    return pod(name or f"{service}-{role}", namespace, labels)


PREFILL, DECODE = worker("llama", "prefill"), worker("llama", "decode")
OTHER_PREFILL, OTHER_DECODE = worker("qwen", "prefill"), worker("qwen", "decode")
NAMESAKE = worker("llama", "decode", "team-b", "namesake")
"""Of a service of the same name, elsewhere."""
WORKERS = (PREFILL, DECODE, OTHER_PREFILL, OTHER_DECODE)
ALL = (*EVERYBODY, *WORKERS, NAMESAKE)
Flow = tuple[str, str, int]


def platform(chart: Chart) -> list[Policy]:
    rendered = chart.render({"metricsAdapter": {"enabled": True}, "networkPolicies": TIGHT})
    return list(rendered.of("NetworkPolicy"))


def flows(policies: list[Policy], ports: tuple[int, ...] = PORTS) -> set[Flow]:
    """Of all that has one of the workers at an end."""
    return {
        (source.name, target.name, port)
        for source, target, port in product(ALL, ALL, ports)
        if source != target and (source in WORKERS or target in WORKERS) and allowed(policies, source, target, port)
    }


def _common(*workers: Peer) -> set[Flow]:
    """What each worker has, whatever it is."""
    return {
        *((ROUTER.name, one.name, 9000) for one in workers),
        *((PROMETHEUS.name, one.name, 9002) for one in workers),
        *((one.name, DNS.name, 53) for one in workers),
    }


def test_two_services_have_exactly_the_listed_flows(chart: Chart) -> None:
    """One downloads its model, the other is virtual; both are pairs over gRPC with two ranks."""
    found = flows([*platform(chart), *made(chart, "llama"), *made(chart, "qwen", engine=VIRTUAL)])
    expected = {
        *_common(*WORKERS),
        *((DECODE.name, PREFILL.name, port) for port in (9100, 9101)),
        *((OTHER_DECODE.name, OTHER_PREFILL.name, port) for port in (9100, 9101)),
        *((one.name, INTERNET.name, 443) for one in (PREFILL, DECODE)),
    }
    assert found - expected == set()
    assert expected - found == set()


def test_nixl_adds_its_side_channel_and_the_ports_that_ucx_listens_on(chart: Chart) -> None:
    service = made(chart, "llama", connector="nixl")
    kv = {port for port in (9100, 9101, 9102, 9103, 40000, 60999, 61000) if allowed(service, DECODE, PREFILL, port)}
    assert kv == {9100, 9101, 9102, 40000, 60999}
    back = {port for port in (9000, 9100, 40000, 61000) if allowed(service, PREFILL, DECODE, port)}
    assert back == {40000}
    for stranger in (OTHER_DECODE, NAMESAKE, ROUTER, *EVERYBODY):
        assert not allowed(service, stranger, PREFILL, 40000), stranger.name


def test_an_aggregated_worker_speaks_with_no_other_worker(chart: Chart) -> None:
    service = made(chart, "llama", prefill="", engine=VIRTUAL)
    assert len(service) == 1
    found = flows([*platform(chart), *service, *made(chart, "qwen", engine=VIRTUAL)])
    assert {flow for flow in found if DECODE.name in flow[:2] and flow[:2] != (DECODE.name, PREFILL.name)} == _common(
        DECODE
    )


@pytest.mark.parametrize("stranger", [OPERATOR, ADAPTER, API_SERVER, METADATA, DATABASE], ids=lambda peer: peer.name)
def test_a_stranger_reaches_no_worker_and_no_worker_reaches_it(chart: Chart, stranger: Peer) -> None:
    policies = [*platform(chart), *made(chart, "llama")]
    for one, port in product((PREFILL, DECODE), PORTS):
        assert not allowed(policies, stranger, one, port)
        assert not allowed(policies, one, stranger, port)


def test_names_are_asked_by_udp_too(chart: Chart) -> None:
    assert all(allowed(made(chart, "llama"), one, DNS, 53, "UDP") for one in (PREFILL, DECODE))


def test_a_hub_of_ones_own_replaces_the_internet(chart: Chart) -> None:
    own = {"downloads": {"cidrs": ["10.9.9.0/24"], "ports": [8443]}}
    service = made(chart, "llama", networkPolicies=own)
    assert allowed(service, DECODE, DATABASE, 8443)
    assert not allowed(service, DECODE, INTERNET, 443)


def test_further_egress_is_the_workers_too(chart: Chart) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.9.9.9/32"}}], "ports": [{"protocol": "TCP", "port": 9000}]}
    service = made(chart, "llama", networkPolicies={"extraEgress": [rule]})
    assert allowed(service, PREFILL, DATABASE, 9000)


def test_a_collector_of_traces_is_reached_by_its_port(chart: Chart) -> None:
    service = made(chart, "llama", otlpEndpoint="http://collector.observability:4317")
    assert allowed(service, PREFILL, DATABASE, 4317)
    assert not allowed(service, PREFILL, DATABASE, 4318)


def test_no_policies_where_none_are_wanted(chart: Chart) -> None:
    assert made(chart, "llama", networkPolicies={"enabled": False}) == []


def test_settings_that_the_chart_renders_are_those_that_the_operator_reads(chart: Chart) -> None:
    from tests.chart.values import EVERYTHING

    for values in ({}, EVERYTHING, {"namespaces": ["a"], "rehearse": True}):
        assert OperatorSettings.model_validate(chart.render(values).settings, by_name=False)
