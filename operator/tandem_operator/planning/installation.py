"""What the operator knows of its own installation in a cluster, beside what it adds to pods (`Settings`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_operator.planning.resolving import Settings


@dataclass(frozen=True, slots=True)
class Peer:
    """Pods, by the labels of their namespace and their own; an empty selector takes all."""

    namespace: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policies:
    """Who may talk to workers, for their NetworkPolicies."""

    routers: Peer
    """To the worker protocol."""
    monitoring: tuple[Peer, ...] = ()
    """To the metrics; empty: all pods of the cluster."""
    nodes: tuple[str, ...] = ()
    """CIDRs that probes come from; empty: any. A kubelet's address is its node's, which no selector can name."""
    downloads: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """CIDRs that models are fetched from, by pods that fetch."""
    download_ports: tuple[int, ...] = (443, 80)
    """And the ports there; an object store of one's own may have others."""


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
