"""What the operator knows of its own installation in a cluster, beside what it adds to pods (`Settings`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tandem_operator.planning.resolving import Settings


@dataclass(frozen=True, slots=True)
class Peer:
    """Pods, by the labels of their namespace and their own; an empty selector takes all."""

    namespace: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policies:
    """Who may talk to workers, and to whom they may, for their NetworkPolicies.

    Kubelets are not among them: Kubernetes lets a pod's own node in whatever a policy says.
    """

    routers: Peer
    """To the worker protocol."""
    monitoring: tuple[Mapping[str, Any], ...] = ()
    """To the metrics: peers as a NetworkPolicy writes them; empty: nobody."""
    dns: tuple[Mapping[str, Any], ...] = ()
    """Who answers names; empty: anybody."""
    downloads: tuple[Mapping[str, Any], ...] = ({"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}})
    """Where models are fetched from, by pods that fetch; empty: nowhere."""
    download_ports: tuple[int, ...] = (443,)
    """And the ports there; an object store of one's own may have others."""
    registry: tuple[Mapping[str, Any], ...] = ()
    """Egress rules to the registry, of pods that fetch from it."""
    extra_egress: tuple[Mapping[str, Any], ...] = ()
    """Further egress rules, of all workers."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One release of the chart."""

    settings: Settings = field(default_factory=Settings)
    url: str = "http://tandem-router"
    """The routers' base URL, as `status.url` says it."""
    policies: Policies | None = None
    """None: no NetworkPolicies are made."""
    rehearse: bool = False
    """All engines are virtual."""
    registry: bool = False
    """There is a registry, which remembers how experiments ended."""
