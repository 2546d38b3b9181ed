"""Topologies from a Kubernetes API server: InferenceServices say what is served, EndpointSlices by which workers."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tandem_api.inference_service import GROUP, VERSION
from tandem_api.topology import Topology

from tandem_router.discovery.assembling import SERVICE, Cluster
from tandem_router.discovery.objects import EndpointSlice, InferenceService
from tandem_router.discovery.watching import Connect, Watch

GATHER_SECONDS: Final = 0.02
"""Between two topologies: what changes in a burst is told together."""


class KubernetesSource:
    """Follows some namespaces, or all. The first topology is told when everything has been listed."""

    def __init__(self, connect: Connect, namespaces: Sequence[str] = (), rng: random.Random | None = None) -> None:
        """`connect` makes a client of the API server; without `namespaces`: all of them."""
        self._connect = connect
        self._namespaces = tuple(dict.fromkeys(namespaces)) or ("",)
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, keeps no secret

    async def follow(self, tell: Callable[[Topology], None]) -> None:
        changed = asyncio.Event()
        cluster = Cluster(changed.set)
        async with asyncio.TaskGroup() as tasks:
            watches = list(self._watches(cluster))
            for watch in watches:
                tasks.create_task(watch.run())
            for watch in watches:
                await watch.listed.wait()
            while True:
                changed.clear()
                tell(cluster.topology())
                await asyncio.sleep(GATHER_SECONDS)
                await changed.wait()

    def _watches(self, cluster: Cluster) -> Iterator[Watch[Any]]:
        for namespace in self._namespaces:
            yield Watch(
                self._connect,
                f"{GROUP}/{VERSION}",
                "inferenceservices",
                InferenceService,
                cluster.services,
                namespace=namespace,
                selector="",
                rng=self._rng,
            )
            yield Watch(
                self._connect,
                "discovery.k8s.io/v1",
                "endpointslices",
                EndpointSlice,
                cluster.slices,
                namespace=namespace,
                selector=SERVICE,
                rng=self._rng,
            )
