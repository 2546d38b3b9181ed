"""/admin/* at a router: the registry's answers, or a clear word that it is away. The registry here is a real one."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import Database, database_url
from tandem_registry.migrating import migrate
from tandem_registry.settings import Settings
from tandem_router.endpoints import relaying

from tests.registry.house import House as Registry
from tests.registry.house import listening
from tests.router.house import House, OpenHouse

PIECE = b"a piece of an answer or a request" * 2000
UPLOAD = b"PATCH /admin/v1/repository/uploads/x HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    url = database_url(f"sqlite:///{folder}/registry.db")
    database = Database(url)
    migrate(database)
    database.close()
    keys = Keys(hashlib.sha256(b"the static key, long enough").hexdigest(), None)
    settings = Settings(database=url, storage=f"file://{folder}/storage", keys=keys, sweep_seconds=10_000)
    with listening(settings, Surroundings()) as registry:
        yield registry


@pytest.fixture
async def relayed(open_house: OpenHouse, registry: Registry) -> AsyncIterator[House]:
    async with open_house(registry_url=registry.url) as here:
        here.http.headers["Authorization"] = "Bearer the static key, long enough"
        yield here


class Peer:
    """A server that answers each connection as a test says, and tells what it got."""

    def __init__(self, answer: Callable[["Peer", asyncio.StreamWriter], Coroutine[None, None, None]]) -> None:
        self._answer = answer
        self.got = bytearray()
        self.begun, self.left, self.more = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self._answer(self, writer))
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    self.got += piece
                    self.begun.set()
            self.left.set()
            answering.cancel()
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Peer"]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self


async def silence(peer: Peer, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def half(peer: Peer, writer: asyncio.StreamWriter) -> None:
    """A head that promises more than comes before the end of the connection."""
    await peer.begun.wait()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def endless(peer: Peer, writer: asyncio.StreamWriter) -> None:
    await peer.begun.wait()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()


async def in_two_parts(peer: Peer, writer: asyncio.StreamWriter) -> None:
    await peer.begun.wait()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-One: 1\r\nConnection: x-one\r\n\r\nfirst")
    await peer.more.wait()
    writer.write(b"later")


async def too_much(peer: Peer, writer: asyncio.StreamWriter) -> None:
    await peer.begun.wait()
    writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")


@asynccontextmanager
async def between(open_house: OpenHouse, answer: Any, **settings: Any) -> AsyncIterator[tuple[House, Peer]]:
    async with AsyncExitStack() as stack:
        peer = await stack.enter_async_context(Peer(answer).serving())
        here = await stack.enter_async_context(open_house(registry_url=peer.url, **settings))
        yield here, peer


async def test_a_model_is_made_read_and_changed_by_its_etag(relayed: House) -> None:
    made = await relayed.http.post("/admin/v1/registry/models", json={"name": "etag"})
    assert made.status_code == 201
    path = "/admin/v1/registry/models/etag"
    read = await relayed.http.get(path)
    unchanged = await relayed.http.get(path, headers={"If-None-Match": read.headers["etag"]})
    late = await relayed.http.patch(path, json={"description": "x"}, headers={"If-Match": '"another"'})
    changed = await relayed.http.patch(path, json={"description": "x"}, headers={"If-Match": read.headers["etag"]})
    assert [answer.status_code for answer in (read, unchanged, late, changed)] == [200, 304, 412, 200]
    assert changed.headers["etag"] != read.headers["etag"]


async def test_a_file_goes_up_in_pieces_and_comes_down_in_ranges(relayed: House) -> None:
    data = os.urandom(3_000_001)
    sha256 = hashlib.sha256(data).hexdigest()
    begun = await relayed.http.post("/admin/v1/repository/uploads", json={"size": len(data), "sha256": sha256})

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    path = f"/admin/v1/repository/uploads/{begun.json()['id']}"
    sent = await relayed.http.patch(path, content=pieces(), headers={"Upload-Offset": "0"})
    assert sent.json()["complete"], sent.text
    assert sent.headers["upload-offset"] == str(len(data))
    file = f"/admin/v1/repository/files/{sha256}"
    whole = await relayed.http.get(file)
    part = await relayed.http.get(file, headers={"Range": "bytes=2000000-"})
    head = await relayed.http.head(file)
    assert whole.content == data
    assert (part.status_code, part.content) == (206, data[2_000_000:])
    assert part.headers["content-range"] == f"bytes 2000000-{len(data) - 1}/{len(data)}"
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


async def test_an_id_with_slashes_and_a_query_reach_the_registry_as_they_are(relayed: House) -> None:
    missing = await relayed.http.get("/admin/v1/repository/models/org/name%20x")
    found = await relayed.http.get("/admin/v1/registry/resolve", params={"source": "registry://no such&x=1"})
    assert missing.status_code == 400
    assert found.json()["error"]["message"].startswith("source: must be registry://NAME")


async def test_the_registry_itself_asks_for_a_key(relayed: House) -> None:
    refused = await relayed.http.get("/admin/v1/registry/models", headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_registry_that_is_away_is_a_503_that_says_so(open_house: OpenHouse) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen: nobody else gets the port
        port = closed.getsockname()[1]
        async with open_house(registry_url=f"http://127.0.0.1:{port}") as here:
            answer = await here.http.get("/admin/v1/registry/models")
            error = answer.json()["error"]
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (error["code"], error["type"], error["param"]) == ("registry_unavailable", "server_error", None)
            assert "what is served goes on" in error["message"]
            assert (await here.http.get("/v1/models")).status_code == 200


async def test_a_router_without_a_registry_says_how_to_give_it_one(open_house: OpenHouse) -> None:
    async with open_house() as here:
        answer = await here.http.post("/admin/v1/registry/models", json={"name": "m"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_registry")
        assert "--registry-url" in answer.json()["error"]["message"]


async def test_a_registry_that_does_not_answer_in_time_is_a_503(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "IDLE_SECONDS", 0.2)
    async with between(open_house, silence) as (here, peer):
        assert (await here.http.get("/admin/v1/registry/models")).status_code == 503
        await asyncio.wait_for(peer.left.wait(), 60)


async def test_what_comes_is_passed_on_before_there_is_more(open_house: OpenHouse) -> None:
    async with (
        between(open_house, in_two_parts) as (here, peer),
        here.http.stream("GET", "/admin/v1/repository/files/x") as answer,
    ):
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"first"
        peer.more.set()
        assert await anext(pieces) == b"later"
        assert "x-one" not in answer.headers, "it belonged to the registry's connection"


async def test_an_upload_is_passed_on_as_it_comes_and_answered_before_it_has_ended(open_house: OpenHouse) -> None:
    async with between(open_house, too_much) as (here, peer):
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(UPLOAD + b"Content-Length: 1000000\r\nConnection: x-mine\r\nX-Mine: 1\r\nX-Other: 2\r\n\r\nbegins")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 60)
        await asyncio.wait_for(peer.left.wait(), 60)
        writer.close()
        head, _, body = bytes(peer.got).partition(b"\r\n\r\n")
        assert body == b"begins"
        assert b"\r\ncontent-length: 1000000" in head
        assert b"\r\nx-other: 2" in head
        assert b"\r\nx-mine" not in head, "it belonged to the client's connection"


@pytest.mark.parametrize("answer", [silence, endless])
async def test_a_client_that_goes_takes_its_request_with_it(open_house: OpenHouse, answer: Any) -> None:
    async with between(open_house, answer) as (here, peer):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"GET /admin/v1/repository/files/x HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(peer.begun.wait(), 60)
        writer.transport.abort()
        await asyncio.wait_for(peer.left.wait(), 60)


async def test_a_client_that_goes_while_it_uploads_takes_its_request_with_it(open_house: OpenHouse) -> None:
    async with between(open_house, silence) as (here, peer):
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"6\r\nbegins\r\n")
        await here.until(lambda: b"begins" in peer.got)
        writer.transport.abort()
        await asyncio.wait_for(peer.left.wait(), 60)
        assert not peer.got.endswith(b"0\r\n\r\n"), "it looked like the whole of it"


async def test_an_answer_that_breaks_off_ends_the_connection(open_house: OpenHouse) -> None:
    async with between(open_house, half) as (here, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await here.http.get("/admin/v1/repository/files/x")


async def test_a_registry_that_reads_nothing_is_not_sent_more_than_it_takes(open_house: OpenHouse) -> None:
    """Else a router would hold whole models in memory."""
    unread = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await unread.wait()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, open_house(registry_url=url) as here:
        _, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(UPLOAD + b"Content-Length: 1000000000\r\n\r\n")

        async def pour() -> None:
            for _ in range(1000):
                writer.write(PIECE)
                await writer.drain()

        # Kernel buffers take a few of these 66 MB.
        pouring = asyncio.create_task(pour())
        done, _ = await asyncio.wait({pouring}, timeout=1.5)
        pouring.cancel()
        writer.transport.abort()
        unread.set()
        assert not done
