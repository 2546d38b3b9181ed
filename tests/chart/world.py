"""A cluster with everybody in it who might try to reach somebody of Tandem's."""

from collections.abc import Iterator, Mapping
from typing import Final

from tandem_operator.planning.names import ROLE, SERVICE

from tests.chart.flows import Peer
from tests.chart.rendering import NAMESPACE, RELEASE

API_SERVER: Final = Peer("api-server", "10.0.0.1")
INTERNET: Final = Peer("internet", "198.51.100.7")
METADATA: Final = Peer("metadata", "169.254.169.254")
DATABASE: Final = Peer("database", "10.9.9.9")
"""An address of the company's own network, outside the cluster."""


def _labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "tandem",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/component": component,
    }


def _addresses() -> Iterator[str]:
    yield from (f"10.244.0.{number}" for number in range(1, 250))


_ADDRESS = _addresses()


def pod(name: str, namespace: str, labels: Mapping[str, str] | None = None) -> Peer:
    """A pod with an address of its own; where nothing is said, labelled with its name."""
    found = labels if labels is not None else {"app": name}
    return Peer(name, next(_ADDRESS), namespace, found, {"kubernetes.io/metadata.name": namespace})


ROUTER: Final = pod("router", NAMESPACE, _labels("router"))
OPERATOR: Final = pod("operator", NAMESPACE, _labels("operator"))
REGISTRY: Final = pod("registry", NAMESPACE, _labels("registry"))
ADAPTER: Final = pod("adapter", NAMESPACE, _labels("adapter"))
TEST: Final = pod("helm-test", NAMESPACE, _labels("test"))
PROMETHEUS: Final = pod("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS: Final = pod("dns", "kube-system", {"k8s-app": "kube-dns"})
CLIENT: Final = pod("client", "apps")
NEIGHBOUR: Final = pod("neighbour", "team-a")
"""In the namespace of services, and none of them."""
LODGER: Final = pod("lodger", NAMESPACE)
"""In the release's namespace, and not of the release."""
IMPOSTOR: Final = pod("impostor", "apps", _labels("router"))
"""Labelled as a router, in a namespace where anybody may label."""
SPY: Final = pod("spy", "team-a", {"app.kubernetes.io/name": "tandem-worker", SERVICE: "other", ROLE: "decode"})
"""A worker of another service, in the same namespace."""

STRANGERS: Final = (CLIENT, NEIGHBOUR, LODGER, IMPOSTOR, SPY, DNS, METADATA, INTERNET, DATABASE)
EVERYBODY: Final = (ROUTER, OPERATOR, REGISTRY, ADAPTER, TEST, PROMETHEUS, API_SERVER, *STRANGERS)
PORTS: Final = (22, 53, 80, 443, 5432, 6443, 8080, 8081, 8082, 8090, 9000, 9001, 9002, 9100, 9101, 9102, 10250, 50000)
