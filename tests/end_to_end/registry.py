"""A model registry beside the cluster, which comes and goes as a test wants it to."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings

from tests.cluster.cluster import Cluster
from tests.cluster.network import CLUSTER_ADDRESS
from tests.registry.house import listening

PORT: Final = 18_090
SECONDS = 90.0


class Registry:
    """Runs while it is entered, but for when it was stopped. What it knows stays."""

    url = f"http://{CLUSTER_ADDRESS}:{PORT}"

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        database = database_url(f"sqlite:///{folder}/registry.db")
        store = Database(database)
        migrate(store)
        store.close()
        self._settings = Settings(database, f"file://{folder}/storage", Keys(None, None, required=False))
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        with self._cluster.entered():
            address = (CLUSTER_ADDRESS, PORT)
            self._running.enter_context(listening(self._settings, Surroundings(), address=address))

    def stop(self) -> None:
        self._running.close()

    async def told(self, experiment: str, outcome: str) -> None:
        """Waits until it has an experiment's outcome."""
        path = f"{self.url}/admin/v1/experiments/{experiment}/outcome"
        async with asyncio.timeout(SECONDS), httpx.AsyncClient(timeout=60) as http:
            while (answer := await http.get(path)).status_code == 404:
                await asyncio.sleep(0.1)
        assert answer.json()["outcome"] == outcome
