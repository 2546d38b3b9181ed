"""One kind of objects in a Kubernetes API server, followed for good: listed once, then watched.

What was known stays known while the API server is away. A watch that ends, by its own timeout, because the server
restarts or because the connection is lost, goes on where it was; only where the server no longer knows that point (410
Gone) everything is listed again. Bookmarks move that point on where nothing changes, and their absence tells a
connection that has silently died.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Generic, NoReturn, Protocol, TypeVar

import httpx2
import msgspec

from tandem_router.discovery.objects import Meta, Object

_log = logging.getLogger(__name__)

PAGE: Final = 500
"""Objects of one answer to a list."""
WATCH_SECONDS: Final = 300
"""After which the API server ends a watch: between this and twice as many, drawn each time, so that routers spread."""
SILENCE_SECONDS: Final = 100.0
"""Without a word, a watch is taken for dead. Bookmarks come about once a minute."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0

K = TypeVar("K", bound=Object)
_Heard = TypeVar("_Heard", bound=Object, contravariant=True)

Connect = Callable[[], AbstractAsyncContextManager[httpx2.AsyncClient]]


class Hears(Protocol[_Heard]):
    """Who is told what there is."""

    def listed(self, objects: Sequence[_Heard], namespace: str) -> None:
        """All that there is in a namespace; in all namespaces where that is empty."""

    def changed(self, object: _Heard) -> None:
        """One that was made or changed."""

    def deleted(self, object: _Heard) -> None:
        """One that is no more."""


class Refused(Exception):
    """The API server answered, but not with what was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


class _ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "next": "continue"}):
    resource_version: str = ""
    next: str = ""


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: Meta


class _Failure(msgspec.Struct):
    code: int = 0
    message: str = ""


_LIST: Final = msgspec.json.Decoder(_List)
_EVENT: Final = msgspec.json.Decoder(_Event)
_BOOKMARK: Final = msgspec.json.Decoder(_Bookmark)
_FAILURE: Final = msgspec.json.Decoder(_Failure)


class Watch(Generic[K]):
    """Follows the objects of one kind. `run` is a task of whoever made it."""

    def __init__(
        self,
        connect: Connect,
        api: str,
        plural: str,
        kind: type[K],
        hears: Hears[K],
        *,
        namespace: str,
        selector: str,
        rng: random.Random,
    ) -> None:
        """`api` is "discovery.k8s.io/v1"; `namespace` empty: all of them; `selector` chooses by labels, empty: all."""
        self.listed = asyncio.Event()
        """It knows all that there was at some moment."""
        self._connect = connect
        self._path = f"/apis/{api}/namespaces/{namespace}/{plural}" if namespace else f"/apis/{api}/{plural}"
        self._namespace = namespace
        self._decoder = msgspec.json.Decoder(kind)
        self._hears = hears
        self._params: Mapping[str, str] = {"labelSelector": selector} if selector else {}
        self._rng = rng
        self._version = ""
        """The point from which to go on; empty: to be listed."""
        self._pause = FIRST_PAUSE
        self._trouble = ""

    async def run(self) -> NoReturn:
        """Follows, whatever happens to the API server, until it is cancelled."""
        while True:
            try:
                # Made anew each time: tokens and certificates are rotated.
                async with self._connect() as client:
                    if not self._version:
                        await self._list(client)
                    await self._watch(client)
            except httpx2.ReadTimeout:
                self._failed(f"nothing was heard for {SILENCE_SECONDS:g} s")
            except Exception as error:
                # Whatever it is: a wrong token, a proxy's page in place of JSON. It must not end what was known.
                if isinstance(error, Refused) and error.status == 410:
                    self._version = ""
                self._failed(str(error) or type(error).__name__)
            await asyncio.sleep(self._pause * self._rng.uniform(0.5, 1.0))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _list(self, client: httpx2.AsyncClient) -> None:
        objects: list[K] = []
        params = {**self._params, "limit": str(PAGE)}
        while True:
            response = await client.get(self._path, params=params)
            if response.status_code != 200:
                raise _refused(response.status_code, response.content)
            page = _LIST.decode(response.content)
            objects += [found for raw in page.items or () if (found := self._read(raw)) is not None]
            if not page.metadata.next:
                break
            params["continue"] = page.metadata.next
        self._version = page.metadata.resource_version
        self._succeeded()
        self._hears.listed(objects, self._namespace)
        self.listed.set()

    async def _watch(self, client: httpx2.AsyncClient) -> None:
        params = {
            **self._params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(self._rng.randint(WATCH_SECONDS, 2 * WATCH_SECONDS)),
        }
        timeout = httpx2.Timeout(10.0, read=SILENCE_SECONDS)
        async with client.stream("GET", self._path, params=params, timeout=timeout) as response:
            if response.status_code != 200:
                raise _refused(response.status_code, await response.aread())
            async for line in _lines(response):
                self._take(_EVENT.decode(line))

    def _take(self, event: _Event) -> None:
        if event.type == "ERROR":
            failure = _FAILURE.decode(event.object)
            raise Refused(failure.code, failure.message)
        self._succeeded()
        object = None if event.type == "BOOKMARK" else self._read(event.object)
        if object is None:
            self._version = _BOOKMARK.decode(event.object).metadata.resource_version
            return
        self._version = object.metadata.resource_version
        if event.type == "DELETED":
            self._hears.deleted(object)
        else:
            self._hears.changed(object)

    def _read(self, raw: msgspec.Raw) -> K | None:
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            key = _BOOKMARK.decode(raw).metadata.key
            _log.error("%s of %s can't be used and is left out until it changes: %s", key, self._path, error)
            return None

    def _succeeded(self) -> None:
        if self._trouble:
            _log.info("%s can be watched again", self._path)
        self._trouble = ""
        self._pause = FIRST_PAUSE

    def _failed(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning("%s can't be watched; what is known stays in force: %s", self._path, trouble)
        self._trouble = trouble


async def _lines(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Lines of a watch, which end with a line feed and nothing else: objects may hold what else ends lines of text."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line


def _refused(status: int, content: bytes) -> Refused:
    try:
        return Refused(status, _FAILURE.decode(content).message)
    except msgspec.DecodeError:
        return Refused(status, "no reason was given")
