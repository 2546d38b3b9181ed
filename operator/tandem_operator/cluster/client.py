"""Requests to the API server, with plain dicts both ways.

Credentials, TLS and the renewal of tokens are lightkube's; its typed objects are not used, because what the planner
renders, and what the server answers, are dicts already.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from lightkube import KubeConfig
from lightkube.config import client_adapter

from tandem_operator.cluster.errors import Unavailable, error_of
from tandem_operator.cluster.kinds import Kind

FIELD_MANAGER: Final = "tandem-operator"

REQUEST_SECONDS: Final = 30.0
"""For one request. API servers give up on theirs after 60."""

_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"

Object = dict[str, Any]
Observe = Callable[[str, str, int, float], None]
"""Told of each request: verb, kind, status (0: no answer), seconds."""


class Cluster:
    """Reads and writes of single objects. All of them raise the errors of `tandem_operator.cluster.errors`."""

    def __init__(self, http: httpx2.AsyncClient, clock: Callable[[], float], observe: Observe) -> None:
        self._http = http
        self._clock = clock
        self._observe = observe

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        return await self._request("get", kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None, selector: str) -> Object:
        """What there is, from the server's cache."""
        return await self._list(kind, namespace, selector, "application/json")

    async def list_metadata(self, kind: Kind, namespace: str | None, selector: str) -> Object:
        """Names, uids and versions of what there is, from the server's cache: cheap for both sides."""
        return await self._list(
            kind, namespace, selector, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        )

    async def _list(self, kind: Kind, namespace: str | None, selector: str, media: str) -> Object:
        params = {"labelSelector": selector, "resourceVersion": "0"}
        listed = await self._request("list", kind, namespace, params=params, headers={"Accept": media})
        return {**listed, "items": listed.get("items") or []}  # none are null in some of the server's lists

    async def apply(self, kind: Kind, namespace: str | None, body: Mapping[str, Any], subresource: str = "") -> Object:
        """Server-side apply; what others own of these fields is taken over."""
        name = body["metadata"]["name"]
        params = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._patch("apply", _APPLY, kind, namespace, name, body, subresource, params)

    async def patch_status(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any]) -> Object:
        """Strategic merge: conditions of others stay. Of built-in kinds only."""
        params = {"fieldManager": FIELD_MANAGER}
        return await self._patch("patch", _STRATEGIC, kind, namespace, name, body, "status", params)

    async def scale(self, kind: Kind, namespace: str, name: str, replicas: int, uid: str, version: str) -> Object:
        """Sets the replicas of one object at one version of it. Returns the Scale."""
        body = {"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"replicas": replicas}}
        params = {"fieldManager": FIELD_MANAGER}
        return await self._patch("scale", _MERGE, kind, namespace, name, body, "scale", params)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, version: str | None = None) -> None:
        """Deletes this very object, and in the background what it owns."""
        preconditions = {"uid": uid} | ({"resourceVersion": version} if version else {})
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": preconditions,
        }
        await self._request("delete", kind, namespace, name, body=options)

    async def _patch(
        self,
        verb: str,
        media: str,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any],
        subresource: str,
        params: Mapping[str, str],
    ) -> Object:
        headers = {"Content-Type": media}
        return await self._request(verb, kind, namespace, name, subresource, body=body, params=params, headers=headers)

    async def _request(
        self,
        verb: str,
        kind: Kind,
        namespace: str | None,
        name: str = "",
        subresource: str = "",
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        part = "/".join(part for part in (kind.name, subresource) if part)
        what = f"{verb} {part} {'/'.join(part for part in (namespace, name) if part)}"
        started, status = self._clock(), 0
        try:
            answer = await self._http.request(
                _METHODS[verb],
                kind.path(namespace, name, subresource),
                content=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                params=params,
                headers={"Content-Type": "application/json", **(headers or {})},
            )
            status = answer.status_code
        except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
            raise Unavailable(what, str(error) or type(error).__name__) from error
        finally:
            self._observe(verb, part, status, self._clock() - started)
        try:
            document = json.loads(answer.content)
        except ValueError:
            document = {}
        if not isinstance(document, dict):
            document = {}
        if status >= 400:
            raise error_of(what, status, document, answer.headers.get("Retry-After"))
        return document


_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "apply": "PATCH",
    "patch": "PATCH",
    "scale": "PATCH",
    "delete": "DELETE",
}


@asynccontextmanager
async def connect(clock: Callable[[], float], observe: Observe) -> AsyncIterator[Cluster]:
    """The cluster that this process runs in, else the one that KUBECONFIG names.

    Raises:
        lightkube.ConfigError: there is neither.
    """
    config = KubeConfig.from_env().get()
    assert config is not None
    connection = client_adapter.ConnectionParams(timeout=httpx2.Timeout(REQUEST_SECONDS))
    async with client_adapter.AsyncClient(config, connection) as http:
        yield Cluster(http, clock, observe)
