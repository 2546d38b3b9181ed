"""What becomes of a request, whatever the server does with its connection."""

import asyncio
import datetime
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tandem_cli.benchmark.asking import Asker, Target
from tandem_cli.benchmark.http import Server
from tandem_cli.benchmark.prompts import Prompts
from tandem_cli.benchmark.protocols import APIS
from tandem_cli.benchmark.samples import Sample

from tests.cluster.pki import Authority
from tests.loopback import free_port

EVENTS = (
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"content": "Hé"}}]},
    {"choices": [{"delta": {"content": "llo"}}]},
    {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7}},
)
STREAM = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in EVENTS) + b"data: [DONE]\n\n"
ANSWER = json.dumps({"choices": [{"message": {}}], "usage": {"prompt_tokens": 12, "completion_tokens": 7}}).encode()


def framed(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body: bytes, size: int = 50) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""]
    )


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server that writes bytes, and knows what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.left = asyncio.Event()
        """A client has ended its connection."""
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


def writes(*pieces: bytes, close: bool = False) -> Answer:
    """These pieces, and perhaps the connection's end behind them."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if close:
            writer.close()

    return answer


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A server that answers each request so."""
    found = Peer(answer)
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        found.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield found


async def ask(url: str, *, stream: bool = True, times: int = 1, timeout: float = 60, key: str = "") -> list[Sample]:
    """So many requests, one after another."""
    async with Server(url) as server:
        target = Target(f"{url}/v1/chat/completions", APIS["chat"], "some", stream, key, {"top_k": 1})
        asker = Asker(server, target, timeout, time.perf_counter, time.perf_counter())
        prompts = Prompts(Random(1), 3, 7)
        return [await asker.ask(prompts.next(), asker.now()) for _ in range(times)]


async def test_a_stream_is_heard_and_a_whole_answer_is():
    async with serving(writes(chunked(STREAM))) as streaming, serving(writes(framed(ANSWER))) as whole:
        [streamed], [answered] = await ask(streaming.url), await ask(whole.url, stream=False)
    assert (streamed.error, len(streamed.moments), streamed.prompt_tokens, streamed.output_tokens) == ("", 2, 12, 7)
    assert (answered.error, answered.moments, answered.prompt_tokens, answered.output_tokens) == ("", (), 12, 7)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(st.integers(1, len(chunked(STREAM)) - 1), max_size=12))
def test_where_a_connection_cuts_its_bytes_changes_nothing(cuts: set[int]):
    data = chunked(STREAM)
    edges = [0, *sorted(cuts), len(data)]

    async def asked() -> list[Sample]:
        async with serving(writes(*(data[start:end] for start, end in itertools.pairwise(edges)))) as found:
            return await ask(found.url, times=2)

    assert [(s.error, len(s.moments), s.output_tokens) for s in asyncio.run(asked())] == [("", 2, 7)] * 2


async def test_requests_after_one_another_share_a_connection():
    async with serving(writes(chunked(STREAM))) as found:
        samples = await ask(found.url, times=5)
    assert [sample.error for sample in samples] == [""] * 5
    assert found.connections == 1


async def test_a_connection_that_the_server_closes_is_not_asked_again():
    async with serving(writes(framed(STREAM, "200 OK", "Connection: close"), close=True)) as found:
        samples = await ask(found.url, times=3)
    assert [sample.error for sample in samples] == [""] * 3
    assert found.connections == 3


async def test_a_request_says_whom_it_asks_for_what_and_with_which_key():
    async with serving(writes(chunked(STREAM))) as found:
        await ask(found.url, key="s3cret")
    head, body = found.heads[0].decode(), json.loads(found.bodies[0])
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"Host: {found.url.removeprefix('http://')}\r\n" in head
    assert "Authorization: Bearer s3cret\r\n" in head
    assert (body["model"], body["stream"], body["max_tokens"], body["top_k"]) == ("some", True, 7, 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (framed(b'{"error": {}}', "429 Too Many Requests"), "status 429"),
        (framed(b"", "307 Temporary Redirect", "Location: /"), "status 307"),
        (chunked(STREAM)[:-20], "broken connection"),
        (framed(STREAM)[:-20], "broken connection"),
        (b"", "broken connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "broken connection"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "broken connection"),
        (chunked(STREAM[:-20]), "cut stream"),
        (chunked(b'data: {"error": {"message": "out of memory"}}\n\ndata: [DONE]\n\n'), "error event"),
        (chunked(b"data: {oops\n\ndata: [DONE]\n\n"), "unreadable answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + STREAM, ""),  # ends with its connection
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + chunked(STREAM), ""),
    ],
)
async def test_each_way_to_answer_has_its_kind_of_end(answer: bytes, error: str):
    async with serving(writes(answer, close=True)) as found:
        [sample] = await ask(found.url)
    assert sample.error == error


async def test_no_server_is_no_connection():
    [sample] = await ask(f"http://127.0.0.1:{free_port()}")
    assert sample.error == "no connection"


async def test_an_answer_that_takes_too_long_is_a_timeout_and_its_connection_is_given_up():
    async with serving(writes(chunked(STREAM)[:80])) as found:
        [sample] = await ask(found.url, timeout=0.2)
        assert sample.error == "timeout"
        async with asyncio.timeout(30):
            await found.left.wait()


@pytest.mark.parametrize(("trusted", "error"), [(True, ""), (False, "no connection")])
async def test_a_server_is_asked_by_tls_where_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, error: str
):
    authority = Authority(tmp_path, "authority", datetime.datetime.now(datetime.UTC))
    pair = authority.server("server", ["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.pair.certificate))
    async with serving(writes(chunked(STREAM)), tls) as found:
        [sample] = await ask(found.url)
    assert sample.error == error
