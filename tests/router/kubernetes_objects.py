"""InferenceServices and EndpointSlices as an operator and Kubernetes write them, and an API server's answers."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from tandem_api.crd import to_yaml

from tests.cluster.cluster import Cluster

SERVICES = "/apis/tandem.dev/v1alpha1/inferenceservices"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"

Json = dict[str, Any]


def service(name: str = "m", namespace: str = "default", *, model: str | None = None, **spec: Any) -> Json:
    """The smallest one."""
    versions = [{"name": "v1", "engine": {"type": "virtual"}}]
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": model or name, "versions": versions, "decode": {"replicas": 1}, **spec},
    }


def revision(name: str = "r1", **said: Any) -> Json:
    return {"name": name, "disaggregated": False, "traffic": True, **said}


def version(name: str = "v1", *revisions: Json, weight: int = 100, **said: Any) -> Json:
    """One of `status.versions`."""
    return {"name": name, "weight": weight, "revisions": list(revisions or (revision(),)), **said}


def endpoint(name: str, address: str, ready: bool = True, terminating: bool = False) -> Json:
    return {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": name},
    }


def slice_of(
    *endpoints: Json,
    of: str = "m",
    namespace: str = "default",
    version: str = "v1",
    revision: str = "r1",
    role: str = "decode",
    port: int = 9000,
    suffix: str = "",
) -> Json:
    """A slice of the headless Service of a role."""
    labels = {"service": of, "version": version, "revision": revision, "role": role}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{of}-{version}-{role}-{revision}{suffix}",
            "namespace": namespace,
            "labels": {f"tandem.dev/{what}": value for what, value in labels.items()},
        },
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 9002}, {"name": "grpc", "port": port}],
        "endpoints": list(endpoints),
    }


def install_crd(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=to_yaml())
    # `kubectl wait` fails on a CRD that has no status yet.
    end = time.monotonic() + 60
    while cluster.kubectl("get", "--raw", SERVICES, check=False).returncode:
        assert time.monotonic() < end


def say(cluster: Cluster, namespace: str, name: str, *versions: Json) -> str:
    """Writes a service's status, as the operator does; its resourceVersion."""
    status = json.dumps({"status": {"versions": list(versions)}})
    patch = ("inferenceservice", name, "--subresource=status", "--type=merge", "-p", status, "-o", "json")
    written: str = json.loads(cluster.kubectl("patch", "-n", namespace, *patch).stdout)["metadata"]["resourceVersion"]
    return written


# ---- an API server that does what a test tells it


@dataclass
class Request:
    """What a client asked for."""

    path: str
    params: Mapping[str, str]

    @property
    def watches(self) -> bool:
        return self.params.get("watch") == "true"


Answer = Callable[[Request, "Reply"], Any]


@dataclass
class Reply:
    """One answer under way."""

    writer: asyncio.StreamWriter

    def head(self, status: int = 200) -> None:
        self.writer.write(b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" % status)

    def events(self, *events: Json) -> None:
        """As one write, so that they come together."""
        self.writer.write(b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events))

    def list(self, version: str, objects: Iterable[Json], more: str = "") -> None:
        self.head()
        metadata = {"resourceVersion": version, "continue": more}
        self.writer.write(json.dumps({"metadata": metadata, "items": list(objects)}).encode())

    def failure(self, status: int, message: str) -> None:
        self.head(status)
        self.writer.write(json.dumps({"kind": "Status", "code": status, "message": message}).encode())

    async def rest(self) -> None:
        """A watch without news."""
        await self.writer.drain()
        await asyncio.Event().wait()


@dataclass
class FakeApi:
    """Answers lists from `objects`, and watches by `watch`; keeps what was asked for."""

    watch: Answer
    objects: dict[str, list[Json]] = field(default_factory=dict)
    page: int = 1000
    """Objects of one answer to a list."""
    asked: list[Request] = field(default_factory=list)
    url: str = ""
    _serving: set["asyncio.Task[Any]"] = field(default_factory=set)

    def connect(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.url, trust_env=False)

    def lists(self, path: str) -> int:
        return sum(not request.watches for request in self.asked if request.path == path)

    def watches(self, path: str) -> list[Request]:
        return [request for request in self.asked if request.watches and request.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = urlsplit(head.split()[1])
            request = Request(target.path, dict(parse_qsl(target.query)))
            self.asked.append(request)
            reply = Reply(writer)
            if request.watches:
                await self.watch(request, reply)
            else:
                start = int(request.params.get("continue", "0"))
                objects, end = self.objects.get(request.path, []), start + self.page
                reply.list("10", objects[start:end], str(end) if end < len(objects) else "")
        except asyncio.CancelledError:
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeApi"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._serving):
                task.cancel()


_versions = itertools.count(100)


def event(kind: str, object: Json) -> Json:
    """Of a watch; each has a resourceVersion of its own."""
    metadata = {**object["metadata"], "resourceVersion": str(next(_versions))}
    return {"type": kind, "object": {**object, "metadata": metadata}}
