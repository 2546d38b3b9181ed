"""Which packets NetworkPolicies let through, by the rules of networking.k8s.io/v1.

- A pod that no policy of a direction selects is open in that direction; one that some select lets in (or out) what any
  of their rules allows. A connection needs both: its source's egress and its target's ingress. Answers come along.
- `policyTypes` defaults to Ingress, and Egress where there is an `egress`.
- A rule without peers means everybody, without ports all ports. An empty list of rules allows nothing.
- A peer's podSelector alone means pods of the policy's own namespace. ipBlock looks at addresses alone: whether a
  network plugin applies it to pods is its own business, so a check of what is open has to count it in.
- A named port is the target container's own. endPort makes a range.
- A pod's own node always reaches it (kubelets' probes).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection: a pod, or an address outside of all pods (`namespace` is empty then)."""

    name: str
    ip: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Named ports of its containers."""

    @property
    def is_pod(self) -> bool:
        return bool(self.namespace)


def allowed(policies: Iterable[Policy], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` can open a connection to a port of `target`."""
    policies = list(policies)
    return _open(policies, source, target, target, port, protocol, "egress") and _open(
        policies, target, source, target, port, protocol, "ingress"
    )


def _open(
    policies: Iterable[Policy], held: Peer, other: Peer, target: Peer, port: int, protocol: str, direction: str
) -> bool:
    """Whether the policies that hold `held` let it speak with `other`."""
    if not held.is_pod:
        return True
    holding = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == held.namespace
        and direction in _directions(policy)
        and _selects(policy["spec"].get("podSelector", {}), held.labels)
    ]
    if not holding:
        return True
    peers = "to" if direction == "egress" else "from"
    return any(
        _has_port(rule.get("ports"), target, port, protocol)
        and (not rule.get(peers) or any(_is_peer(peer, other, policy) for peer in rule[peers]))
        for policy in holding
        for rule in policy["spec"].get(direction) or ()
    )


def _directions(policy: Policy) -> set[str]:
    spec = policy["spec"]
    types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    return {type.lower() for type in types}


def _is_peer(peer: Mapping[str, Any], other: Peer, policy: Policy) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return _within(other.ip, block["cidr"]) and not any(_within(other.ip, hole) for hole in block.get("except", ()))
    if not other.is_pod:
        return False
    if peer.get("namespaceSelector") is None:
        near = other.namespace == policy["metadata"]["namespace"]
    else:
        near = _selects(peer["namespaceSelector"], other.namespace_labels)
    return near and (peer.get("podSelector") is None or _selects(peer["podSelector"], other.labels))


@cache
def _within(address: str, network: str) -> bool:
    return ip_address(address) in ip_network(network)


def _has_port(ports: list[Mapping[str, Any]] | None, target: Peer, port: int, protocol: str) -> bool:
    if not ports:
        return True
    for one in ports:
        if one.get("protocol", "TCP") != protocol:
            continue
        match one.get("port"):
            case None:
                return True
            case str(name):
                if target.ports.get(name) == port:
                    return True
            case int(first):
                if first <= port <= one.get("endPort", first):
                    return True
    return False


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for condition in selector.get("matchExpressions") or ():
        value = labels.get(condition["key"])
        holds = {
            "In": value in condition.get("values", ()),
            "NotIn": value not in condition.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[condition["operator"]]
        if not holds:
            return False
    return True
