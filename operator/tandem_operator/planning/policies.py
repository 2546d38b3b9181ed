"""Which connections workers may have: NetworkPolicies, a flow for each need and nothing beside.

Into workers: the routers to the worker protocol; decode workers of the same service to prefill workers' KV; monitoring
to the metrics. Out of workers: names (DNS); decode to prefill's KV; where models are fetched, the download, or the
registry; to the servers of upstream engines; where traces are exported, the collector. Probes need no rule: a pod's own
node always reaches it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tandem_api.inference_service import InferenceService, Source
from tandem_api.worker import Ports

from tandem_operator.planning.installation import Installation, Peer
from tandem_operator.planning.names import ROLE, SERVICE, VERSION, service_labels
from tandem_operator.planning.resolving import EffectiveVersion, Role

Rule = dict[str, Any]

_DNS: Final = 53
_EPHEMERAL: Final = (32768, 60999)
"""Linux' own range: UCX, NIXL's transport over TCP, listens on ports that the kernel picks, on both sides."""
_OTLP: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


def policies(
    service: InferenceService, versions: Iterable[EffectiveVersion], installation: Installation
) -> tuple[dict[str, Any], ...]:
    """The service's NetworkPolicies; none where the installation makes none."""
    if installation.policies is None:
        return ()
    known, ports, allowed = tuple(versions), Ports(), installation.policies
    nixl = any(version.kv_transfer.connector == "nixl" for version in known)
    ranks = max((role.parallelism.tensor for version in known if (role := version.prefill)), default=1)
    # With nixl, each rank's side channel, and behind them one port for the leases.
    kv = [_port(ports.kv, ports.kv + ranks - (0 if nixl else 1))]
    data = [_port(*_EPHEMERAL)] if nixl else []
    into: list[Rule] = [
        {"from": [_peer(allowed.routers)], "ports": [_port(ports.grpc)]},
        *([{"from": [*allowed.monitoring], "ports": [_port(ports.metrics)]}] if allowed.monitoring else []),
    ]
    out: list[Rule] = [
        {**({"to": [*allowed.dns]} if allowed.dns else {}), "ports": [_port(_DNS, protocol="UDP"), _port(_DNS)]},
        *_telemetry(installation.settings.env),
        *(dict(rule) for rule in allowed.extra_egress),
    ]
    made = []
    if any(version.disaggregated for version in known):
        prefill, decode = [_workers(service, "prefill")], [_workers(service, "decode")]
        back: list[Rule] = [{"to": decode, "ports": data}] if nixl else []
        answered: list[Rule] = [{"from": prefill, "ports": data}] if nixl else []
        made.append(_policy(service, "prefill", [*into, {"from": decode, "ports": [*kv, *data]}], [*out, *back]))
        made.append(_policy(service, "decode", [*into, *answered], [*out, {"to": prefill, "ports": [*kv, *data]}]))
    else:
        made.append(_policy(service, "decode", into, out))
    fetching = sorted(version.version for version in known if version.engine.fetches)
    if fetching and allowed.downloads:
        rule = {"to": [*allowed.downloads], "ports": [_port(port) for port in allowed.download_ports]}
        made.append(_fetching(service, "downloads", fetching, [rule]))
    registered = sorted(version.version for version in known if version.engine.fetches and _registered(version))
    if registered and allowed.registry:
        made.append(_fetching(service, "registry", registered, [dict(rule) for rule in allowed.registry]))
    made.extend(_upstream(service, version) for version in known if version.engine.type == "upstream")
    return tuple(made)


def _policy(service: InferenceService, role: Role, into: list[Rule], out: list[Rule]) -> dict[str, Any]:
    selector = {"matchLabels": {SERVICE: service.metadata.name, ROLE: role}}
    return _named(
        service, role, {"podSelector": selector, "policyTypes": ["Ingress", "Egress"], "ingress": into, "egress": out}
    )


def _registered(version: EffectiveVersion) -> bool:
    return version.source is not None and Source.parse(version.source).scheme == "registry"


def _fetching(service: InferenceService, name: str, versions: list[str], rules: list[Rule]) -> dict[str, Any]:
    """Only of pods that fetch a model: those of virtual engines don't."""
    selector = {
        "matchLabels": {SERVICE: service.metadata.name},
        "matchExpressions": [{"key": VERSION, "operator": "In", "values": versions}],
    }
    return _named(service, name, {"podSelector": selector, "policyTypes": ["Egress"], "egress": rules})


def _upstream(service: InferenceService, version: EffectiveVersion) -> dict[str, Any]:
    """To the ports of a version's servers. Which addresses their names stand for can't be told."""
    assert version.engine.upstream is not None
    urls = [urlsplit(endpoint.url) for endpoint in version.engine.upstream.endpoints]
    ports = sorted({url.port or (443 if url.scheme == "https" else 80) for url in urls})
    labels = {SERVICE: service.metadata.name, VERSION: version.version}
    rule = {"ports": [_port(port) for port in ports]}
    selector = {"matchLabels": labels}
    policy = {"podSelector": selector, "policyTypes": ["Egress"], "egress": [rule]}
    return _named(service, f"upstream-{version.version}", policy)


def _telemetry(env: Mapping[str, str]) -> list[Rule]:
    """The collector's address is a name: which pods are behind it can't be told, its port can."""
    if not (endpoint := env.get(_OTLP)):
        return []
    return [{"ports": [_port(urlsplit(endpoint).port or 4317)]}]


def _named(service: InferenceService, suffix: str, spec: dict[str, Any]) -> dict[str, Any]:
    name = service.metadata.name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{name}-{suffix}", "labels": service_labels(name)},
        "spec": spec,
    }


def _workers(service: InferenceService, role: Role) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {SERVICE: service.metadata.name, ROLE: role}}}


def _peer(peer: Peer) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": dict(peer.namespace)} if peer.namespace else {},
        "podSelector": {"matchLabels": dict(peer.pods)} if peer.pods else {},
    }


def _port(port: int, end: int | None = None, protocol: str = "TCP") -> dict[str, Any]:
    return {"protocol": protocol, "port": port, **({"endPort": end} if end is not None and end > port else {})}
