"""Services: ClusterIPs that lead to ready endpoints, and names in hosts files. What kube-proxy and a DNS server do.

A ClusterIP's port is listened on only while an endpoint is ready: otherwise a connection is refused, as by kube-proxy.
An endpoint that stops being ready keeps the connections that it has.
"""

import asyncio
import logging
import random
from pathlib import Path

from tests.cluster.node.api import Api, Object
from tests.cluster.node.naming import hosts, wanted_relays
from tests.cluster.node.relay import Address, Relay

_LOGGER = logging.getLogger(__name__)


class Services:
    """Follows Services and EndpointSlices of all namespaces."""

    def __init__(self, api: Api, folder: Path, choose: random.Random) -> None:
        self._api = api
        self._folder = folder
        self._choose = choose
        self._services: dict[str, Object] = {}
        self._slices: dict[str, Object] = {}
        self._changed = asyncio.Event()
        self._relays: dict[Address, Relay] = {}
        self._written: dict[str, str] = {}

    def names(self, namespace: str) -> Path:
        """The folder with the hosts file of a namespace's pods, which is replaced with every change."""
        if namespace not in self._written:
            self._write_hosts(namespace)
        return self._folder / namespace

    async def run(self) -> None:
        """Keeps relays and hosts files true, for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                for kind, path in (
                    (self._services, "/api/v1/services"),
                    (self._slices, "/apis/discovery.k8s.io/v1/endpointslices"),
                ):
                    group.create_task(self._follow(kind, path))
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    await self._relay()
                    for namespace in self._written:
                        self._write_hosts(namespace)
        finally:
            for relay in self._relays.values():
                relay.close()

    async def _follow(self, known: dict[str, Object], path: str) -> None:
        def on_list(objects: list[Object]) -> None:
            known.clear()
            known.update({one["metadata"]["uid"]: one for one in objects})
            self._changed.set()

        def on_event(kind: str, changed: Object) -> None:
            uid = changed["metadata"]["uid"]
            if kind == "DELETED":
                known.pop(uid, None)
            else:
                known[uid] = changed
            self._changed.set()

        await self._api.follow(path, "", on_list, on_event)

    async def _relay(self) -> None:
        wanted = wanted_relays(self._services.values(), self._slices.values())
        for address in self._relays.keys() - wanted.keys():
            self._relays.pop(address).close()
        for address, targets in wanted.items():
            if address not in self._relays:
                relay = Relay(self._choose)
                try:
                    await relay.listen(address)
                except OSError as error:
                    _LOGGER.error("can't listen on %s: %s", address, error)
                    continue
                self._relays[address] = relay
            self._relays[address].targets = targets

    def _write_hosts(self, namespace: str) -> None:
        text = hosts(namespace, self._services.values(), self._slices.values())
        if self._written.get(namespace) != text:
            self._written[namespace] = text
            folder = self._folder / namespace
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / ".hosts"
            fresh.write_text(text)
            fresh.rename(folder / "hosts")
