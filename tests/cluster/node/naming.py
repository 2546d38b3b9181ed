"""What Services mean: where each ClusterIP leads, and which names stand for which addresses. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterator

from tests.cluster.node.api import Object
from tests.cluster.node.relay import Address

_DOMAIN = "cluster.local"
_SERVICE = "kubernetes.io/service-name"


def wanted_relays(services: Collection[Object], slices: Collection[Object]) -> dict[Address, list[Address]]:
    """The ready endpoints of each ClusterIP's port; ports without one are left out."""
    by_service = _by_service(slices)
    relays = {}
    for service in services:
        address = service["spec"].get("clusterIP", "None")
        if address in ("None", ""):
            continue
        for port in service["spec"].get("ports", []):
            targets = [
                (endpoint["addresses"][0], target["port"])
                for found in by_service[_key(service)]
                for target in found.get("ports") or []
                if (target.get("name") or "") == port.get("name", "") and port.get("protocol", "TCP") == "TCP"
                for endpoint in _ready(found, service)
            ]
            if targets:
                relays[address, port["port"]] = targets
    return relays


def hosts(namespace: str, services: Collection[Object], slices: Collection[Object]) -> str:
    """The hosts file of the pods of a namespace: a headless Service's name stands for all of its ready endpoints."""
    by_service = _by_service(slices)
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    for service in sorted(services, key=_key):
        address = service["spec"].get("clusterIP", "None")
        if address in ("None", ""):
            found = (each for one in by_service[_key(service)] for each in _ready(one, service))
            addresses = sorted({endpoint["addresses"][0] for endpoint in found})
        else:
            addresses = [address]
        own, name = service["metadata"]["namespace"], service["metadata"]["name"]
        names = [f"{name}.{own}.svc.{_DOMAIN}", f"{name}.{own}.svc", f"{name}.{own}"]
        names += [name] if own == namespace else []
        lines += [f"{each}\t{' '.join(names)}" for each in addresses]
    return "\n".join(lines) + "\n"


def _by_service(slices: Collection[Object]) -> defaultdict[tuple[str, str], list[Object]]:
    found = defaultdict(list)
    for one in slices:
        name = one["metadata"].get("labels", {}).get(_SERVICE)
        if name:
            found[one["metadata"]["namespace"], name].append(one)
    return found


def _key(service: Object) -> tuple[str, str]:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def _ready(found: Object, service: Object) -> Iterator[Object]:
    all_of_them = service["spec"].get("publishNotReadyAddresses", False)
    for endpoint in found.get("endpoints") or []:
        if all_of_them or endpoint.get("conditions", {}).get("ready") is not False:
            yield endpoint
