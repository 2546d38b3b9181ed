"""What an InferenceService's status says, change by change, as `kubectl get --watch` shows it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.cluster.cluster import Cluster

Json = dict[str, Any]
SECONDS = 120.0


class Following:
    """The states of one service since the beginning; the last one is the current one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.states: list[Json] = []
        self._moved = asyncio.Condition()

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Takes states in as they come."""
        buffer = b""
        while piece := await reader.read(1 << 16):
            *documents, buffer = (buffer + piece).split(b"\n}\n")
            for document in documents:
                async with self._moved:
                    self.states.append(json.loads(document + b"}"))
                    self._moved.notify_all()

    async def until(self, wanted: Callable[[Json], Any], *, since: int = 0, seconds: float = SECONDS) -> Json:
        """The first state that is as wanted: from now on, the current one included. Fails with the last one.

        What it returns may be over already: what a test asks the cluster next has to hold by itself.

        `since`: the first one of this generation of the spec or a later one, though it be over already.
        """
        seen = 0 if since else max(0, len(self.states) - 1)
        try:
            async with asyncio.timeout(seconds), self._moved:
                while True:
                    for state in self.states[seen:]:
                        if state["metadata"]["generation"] >= since and wanted(state):
                            return state
                    seen = len(self.states)
                    await self._moved.wait()
        except TimeoutError:
            last = json.dumps(self.states[-1].get("status") if self.states else None, indent=1)
            raise AssertionError(f"{self.name} is still, after {seconds} s: {last}") from None


@asynccontextmanager
async def following(cluster: Cluster, namespace: str, name: str) -> AsyncIterator[Following]:
    """Follows an InferenceService while the block lasts. The test has to be inside the cluster."""
    watch = await asyncio.create_subprocess_exec(
        *(cluster.clients.kubectl, "get", "inferenceservice", name, "-n", namespace, "--watch", "-o", "json"),
        env=cluster.env,
        stdout=asyncio.subprocess.PIPE,
    )
    assert watch.stdout is not None
    found = Following(name)
    reading = asyncio.create_task(found.read(watch.stdout))
    try:
        yield found
    finally:
        watch.terminate()
        await watch.wait()
        await reading


def condition(state: Json, type: str) -> Json:
    """A condition that is about the current spec; empty where there is none."""
    for one in state.get("status", {}).get("conditions", ()):
        if one["type"] == type and one.get("observedGeneration") == state["metadata"]["generation"]:
            return dict(one)
    return {}


def complete(state: Json) -> bool:
    """All workers are as the manifest wants them, and requests succeed."""
    return condition(state, "Progressing").get("reason") == "Complete" and condition(state, "Ready")["status"] == "True"


def rolling(state: Json) -> bool:
    """The service is on its way from one revision to the next."""
    return condition(state, "Progressing").get("reason") == "RollingOut"


def serving(state: Json, version: int = 0) -> list[str]:
    """Revisions of a version on which requests may begin."""
    return [one["name"] for one in state["status"]["versions"][version]["revisions"] if one.get("traffic", True)]
