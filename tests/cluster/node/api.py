"""The API server, as the node speaks with it: requests, patches, watches."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]
_LOGGER = logging.getLogger(__name__)
_REQUEST_SECONDS = 30
_PAUSE = 0.5
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server refused a request, or could not be reached; `status` is 0 then."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class Api:
    """A session with the API server; made by `connected`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str) -> Object | None:
        """An object; None where there is none. Raises `ApiError`."""
        try:
            return await self._request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: Mapping[str, Any]) -> Object:
        """Raises `ApiError`."""
        return await self._request("POST", path, body)

    async def patch(self, path: str, body: Mapping[str, Any], kind: str = STRATEGIC_MERGE) -> Object:
        """Raises `ApiError`."""
        return await self._request("PATCH", path, body, kind)

    async def delete(self, path: str, body: Mapping[str, Any]) -> None:
        """Raises `ApiError`."""
        await self._request("DELETE", path, body)

    async def follow(self, path: str, selector: str, on_list: Callable[[list[Object]], None],
                     on_event: Callable[[str, Object], None]) -> None:  # fmt: skip
        """Lists and watches for ever: `on_list` gets all objects, at first and after a break, `on_event` changes."""
        while True:
            try:
                listed = await self._request("GET", f"{path}?{selector}")
                on_list(listed["items"])
                version = listed["metadata"]["resourceVersion"]
                query = f"{selector}&watch=true&allowWatchBookmarks=true&resourceVersion={version}"
                async for event in self._watch(f"{path}?{query}"):
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("message", "watch ended"), event["object"].get("code", 0))
                    if event["type"] != "BOOKMARK":
                        on_event(event["type"], event["object"])
            except ApiError as error:
                _LOGGER.warning("watch of %s: %s", path, error)
                await asyncio.sleep(_PAUSE)

    async def _watch(self, url: str) -> AsyncIterator[Object]:
        rest = b""
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(sock_connect=_REQUEST_SECONDS)) as answer:
                async for data in answer.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(str(error), 0) from error

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> Object:
        data, headers = (None, {}) if body is None else (json.dumps(body), {"content-type": kind})
        limit = aiohttp.ClientTimeout(_REQUEST_SECONDS)
        try:
            async with self._session.request(method, path, data=data, headers=headers, timeout=limit) as answer:
                content: Object = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiError(f"{method} {path}: {error}", 0) from error
        if answer.status >= 400:
            raise ApiError(f"{method} {path}: {content.get('message')}", answer.status)
        return content


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Api]:
    """The API server of a kubeconfig's first cluster, as its first user, who has a certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cafile=cluster["certificate-authority"])
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(cluster["server"], connector=connector) as session:
        yield Api(session)
