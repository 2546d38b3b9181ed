"""What goes over a client's connection, to the byte, with the router's own server and with any other."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tandem_router.frontends.direct import DirectProtocol

from tests.router.fake_worker import FakeCall, decode_well, hang, words
from tests.router.house import House, OpenHouse, fake

BODY = b'{"model":"org/m","stream":true,"messages":[]}'

SERVERS = pytest.mark.parametrize("http", [DirectProtocol, "h11"], ids=["direct", "plain asgi"])


def post(body: bytes = BODY, version: str = "1.1", *headers: str) -> bytes:
    lines = [f"POST /v1/chat/completions HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    """A client that sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = text.strip().split("\r\n")
        return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}

    async def chunks(self) -> bytes:
        """A chunked body, up to its end."""
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body


@asynccontextmanager
async def connected(h: House, receive_buffer: int = 0) -> AsyncIterator[Connection]:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", h.port))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        async with asyncio.timeout(60):
            yield Connection(reader, writer)
    finally:
        writer.close()


@SERVERS
async def test_a_connection_is_kept_for_the_next_request(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0")], http=http) as h, connected(h) as c:
        for _ in range(3):
            c.writer.write(post())
            status, headers = await c.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            assert (await c.chunks()).endswith(b"data: [DONE]\n\n")
        c.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await c.head())[0] == 200


@SERVERS
async def test_whole_answers_and_errors_keep_the_connection_too(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0")], http=http) as h, connected(h) as c:
        for body, wanted in ((b'{"model":"org/m"}', 200), (b'{"model":"x"}', 404), (b"{", 400)) * 2:
            c.writer.write(post(body))
            status, headers = await c.head()
            assert status == wanted
            await c.reader.readexactly(int(headers["content-length"]))


@SERVERS
async def test_requests_sent_ahead_are_answered_in_order(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0")], http=http) as h, connected(h) as c:
        c.writer.write(post() + post(b'{"model":"x"}') + post())
        assert (await c.head())[0] == 200
        await c.chunks()
        status, headers = await c.head()
        assert status == 404
        await c.reader.readexactly(int(headers["content-length"]))
        assert (await c.head())[0] == 200
        assert (await c.chunks()).endswith(b"data: [DONE]\n\n")


@SERVERS
async def test_a_client_that_asks_to_close_is_closed(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0")], http=http) as h, connected(h) as c:
        c.writer.write(post(BODY, "1.1", "Connection: close"))
        _, headers = await c.head()
        assert headers["connection"] == "close"
        await c.chunks()
        assert await c.reader.read() == b""


async def test_a_client_of_http_1_0_gets_no_chunks(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h, connected(h) as c:
        c.writer.write(post(BODY, "1.0"))
        _, headers = await c.head()
        assert "transfer-encoding" not in headers
        assert await c.reader.read() == b"".join(words("Hello", " world")) + b"data: [DONE]\n\n"


@SERVERS
async def test_a_client_that_waits_for_100_continue_gets_it(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0")], http=http) as h, connected(h) as c:
        c.writer.write(post(BODY, "1.1", "Expect: 100-continue").removesuffix(BODY))
        assert (await c.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        c.writer.write(BODY)
        assert (await c.head())[0] == 200
        await c.chunks()


async def test_a_body_refused_before_it_was_sent_is_not_waited_for(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h, connected(h) as c:
        c.writer.write(post(b" " * (11 * 2**20), "1.1", "Expect: 100-continue").rstrip(b" "))
        status, headers = await c.head()
        assert (status, headers["connection"]) == (413, "close")


@SERVERS
async def test_chunks_reach_the_client_as_they_come(open_house: OpenHouse, http: object) -> None:
    go_on = asyncio.Event()

    async def pause(call: FakeCall) -> None:
        call.started()
        call.data(*words("Hel"))
        await go_on.wait()
        call.data(*words("lo"), b"data: [DONE]\n\n")
        call.finished()

    async with open_house(decode=[fake("decode", "d0", pause)], http=http) as h, connected(h) as c:
        c.writer.write(post())
        await c.head()
        first = int(await c.reader.readuntil(b"\r\n"), 16)
        assert await c.reader.readexactly(first) == words("Hel")[0]
        go_on.set()
        await c.reader.readexactly(2)
        assert (await c.chunks()).startswith(words("lo")[0])


@SERVERS
async def test_a_client_that_does_not_read_is_cut_off_and_stalls_nobody(open_house: OpenHouse, http: object) -> None:
    async def pour(call: FakeCall) -> None:
        if b"slow" not in call.body:
            await decode_well(call)
            return
        call.started()
        while not call.cancelled.is_set():
            call.data(b"data: " + b"x" * 60_000 + b"\n\n")
            await asyncio.sleep(0)

    async with open_house(decode=[fake("decode", "d0", pour)], http=http, max_unsent_bytes=2**18) as h:
        async with connected(h, receive_buffer=4096) as c:
            c.writer.write(post(BODY.replace(b"[]", b'["slow"]')))
            await c.head()
            await h.until(lambda: h.decode[0].calls[0].cancelled.is_set())
            assert (await h.chat()).status_code == 200
            # What is still in the buffers ends as a stream that failed ends.
            rest = b""
            while not rest.endswith(b"\r\n0\r\n\r\n"):
                rest += (more := await c.reader.read(2**16))
                assert more, "the stream ended without saying so"
            assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert b"cut off" in rest
        assert await h.metric("tandem_router_clients_cut_off_total") == 1


@SERVERS
async def test_a_client_that_is_cut_off_gets_no_half_event(open_house: OpenHouse, http: object) -> None:
    async def pour(call: FakeCall) -> None:
        call.started()
        while not call.cancelled.is_set():
            call.data(b"data: " + b"x" * 60_000, *[b"x" * 60_000] * 9, b"\n\n")
            await asyncio.sleep(0)

    async with (
        open_house(decode=[fake("decode", "d0", pour)], http=http, max_unsent_bytes=2**18) as h,
        connected(h, receive_buffer=4096) as c,
    ):
        c.writer.write(post())
        await c.head()
        await h.until(lambda: h.decode[0].calls[0].cancelled.is_set())
        *poured, error, done, rest = (await c.chunks()).split(b"\n\n")
        assert {len(event) for event in poured} == {600_006}
        assert error.startswith(b'data: {"error"')
        assert (done, rest) == (b"data: [DONE]", b"")


@SERVERS
async def test_one_event_larger_than_may_lie_unread_cuts_nobody_off(open_house: OpenHouse, http: object) -> None:
    event = b"data: " + b"x" * 2**23 + b"\n\n"

    async def one(call: FakeCall) -> None:
        call.started()
        call.data(*(event[n : n + 2**16] for n in range(0, len(event), 2**16)), b"data: [DONE]\n\n")
        call.finished()

    async with (
        open_house(decode=[fake("decode", "d0", one)], http=http, max_unsent_bytes=2**18) as h,
        connected(h) as c,
    ):
        c.writer.write(post())
        await c.head()
        await h.until(lambda: not h.router.open)
        assert await c.chunks() == event + b"data: [DONE]\n\n"


@SERVERS
async def test_a_client_that_vanishes_is_noticed_while_nothing_is_sent(open_house: OpenHouse, http: object) -> None:
    async with open_house(decode=[fake("decode", "d0", hang)], http=http) as h:
        async with connected(h) as c:
            c.writer.write(post())
            await h.until(lambda: h.decode[0].open)
        await h.until(lambda: h.decode[0].calls[0].cancelled.is_set())


async def test_a_client_that_vanishes_while_sending_holds_nothing(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        async with connected(h) as c:
            c.writer.write(post(BODY + b" " * 1000)[:-500])
            await h.until(lambda: h.router.measures.active == 1)
        await h.until(lambda: h.router.measures.active == 0)


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")], body_timeout=0.2) as h, connected(h) as c:
        c.writer.write(post(BODY + b" " * 1000)[:-500])
        assert (await c.head())[0] == 400
