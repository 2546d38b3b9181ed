"""The router's gRPC call against a server of grpcio's: messages, windows, ends, and peers that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_proto.http2 import frames
from tandem_router.sessions.rpc import Call, open_call

METHOD = "/test.Service/Session"
LARGEST = 2**20

Handler = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    async def session(messages, context):
        await handler(messages, context)

    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
    methods = {"Session": grpc.stream_stream_rpc_method_handler(session)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Client:
    """A call and what it has heard."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent = asyncio.Event()
        self.call: Call

    @asynccontextmanager
    async def calling(self, address: str, method: str = METHOD) -> AsyncIterator["Client"]:
        async with (
            asyncio.timeout(60),
            open_call(address, None, method, self.heard.put_nowait, sent=self.sent.set, largest=LARGEST) as self.call,
        ):
            yield self

    async def send(self, *messages: bytes) -> None:
        for message in messages:
            self.sent.clear()
            self.call.send(message)
            if not self.call.idle:
                await self.sent.wait()


async def echo(messages, context) -> None:
    async for message in messages:
        await context.write(message)


async def test_messages_of_all_sizes_come_back_as_they_were():
    sizes = [0, 1, 4, 5, 16_379, 16_384, 65_535, 65_536, 262_144, 1_000_000]
    async with serving(echo) as address, Client().calling(address) as client:
        for size in sizes:
            message = bytes(i % 251 for i in range(size))
            sending = asyncio.create_task(client.send(message))
            assert await client.heard.get() == message
            await sending


async def test_more_than_the_server_takes_at_once_waits_for_its_window():
    read = asyncio.Event()
    sizes = []

    async def slow(messages, context) -> None:
        await read.wait()
        sizes.extend([len(message) async for message in messages])
        await context.write(b"all")

    async with serving(slow) as address, Client().calling(address) as client:
        sending = asyncio.create_task(client.send(*[bytes(256 * 1024)] * 40))
        await asyncio.wait({sending}, timeout=1)
        assert not sending.done()
        read.set()
        await sending
        client.call.done_writing()
        assert await client.heard.get() == b"all"
    assert sizes == [256 * 1024] * 40


async def test_more_than_our_window_arrives_because_it_is_opened_again():
    async def much(messages, context) -> None:
        for _ in range(200):
            await context.write(bytes(2**18))

    async with serving(much) as address, Client().calling(address) as client:
        ended = await client.call.ended()
    assert ended.code == grpc.StatusCode.OK
    assert client.heard.qsize() == 200


async def test_the_servers_status_and_text_end_the_call():
    async def refuse(messages, context) -> None:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "speaks another protocol: 7 % of it, möglichst")

    async with serving(refuse) as address, Client().calling(address) as client:
        ended = await client.call.ended()
    assert (ended.code, ended.details) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "speaks another protocol: 7 % of it, möglichst",
    )


async def test_an_unknown_method_is_said():
    async with serving(echo) as address, Client().calling(address, "/test.Service/Other") as client:
        assert (await client.call.ended()).code == grpc.StatusCode.UNIMPLEMENTED


async def test_leaving_cancels_the_call_at_the_server():
    cancelled = asyncio.Event()

    async def hang(messages, context) -> None:
        context.add_done_callback(lambda _: cancelled.set())
        await context.write(b"here")
        await asyncio.Event().wait()

    async with serving(hang) as address:
        async with Client().calling(address) as client:
            await client.heard.get()
        async with asyncio.timeout(60):
            await cancelled.wait()


async def test_a_server_that_stops_ends_the_call_and_what_waits_to_be_sent_is_dropped():
    async def never_read(messages, context) -> None:
        await asyncio.Event().wait()

    async with AsyncExitStack() as server:
        address = await server.enter_async_context(serving(never_read))
        async with Client().calling(address) as client:
            client.call.send(bytes(2**22))
            assert not client.call.idle
            await server.aclose()
            assert (await client.call.ended()).code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            assert client.call.idle
            client.call.send(b"more")
            assert client.call.idle
            assert not client.sent.is_set()


async def test_a_message_larger_than_allowed_ends_the_call():
    async def large(messages, context) -> None:
        await context.write(bytes(LARGEST + 1))
        await asyncio.Event().wait()

    async with serving(large) as address, Client().calling(address) as client:
        ended = await client.call.ended()
    assert "1048577 bytes" in ended.details
    assert client.heard.empty()


async def test_what_the_hearer_raises_ends_the_call():
    def hear(message: bytes) -> None:
        raise ValueError("not a frame")

    async def one(messages, context) -> None:
        await context.write(b"x")
        await asyncio.Event().wait()

    async with (
        asyncio.timeout(60),
        serving(one) as address,
        open_call(address, None, METHOD, hear, sent=lambda: None, largest=LARGEST) as call,
    ):
        assert "not a frame" in (await call.ended()).details


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
        b"\0\0\5\0\0\0\0\0\1\1\0\0\0\0",
        b"\xff" * 64,
        b"\0\0\1\1\5\0\0\0\1\xff",
    ],
    ids=["http1", "a message said to be compressed", "noise", "headers that are none"],
)
async def test_a_peer_that_speaks_something_else_is_left(said):
    async def answer(reader, writer) -> None:
        writer.write(said)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Client().calling(f"{host}:{port}") as client:
        ended = await client.call.ended()
    assert "broke the protocol" in ended.details


async def test_a_peer_that_says_nothing_any_more_is_left(monkeypatch):
    monkeypatch.setattr("tandem_router.sessions.rpc.call._BEAT_SECONDS", 0.05)
    asked = bytearray()

    async def silent(reader, writer) -> None:
        while data := await reader.read(2**16):
            asked.extend(data)
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Client().calling(f"{host}:{port}") as client:
        ended = await client.call.ended()
    assert "silent" in ended.details
    assert frames.encode(frames.PING, 0, 0, bytes(8)) in asked


@given(
    st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1, max_size=50),
)
def test_frames_are_the_same_however_the_bytes_arrive(sent, cuts):
    wire = b"".join(frames.encode(kind, 0, 1, payload) for kind, payload in sent)
    reader, got, at = frames.Reader(2**14), [], 0
    for cut in [*cuts, len(wire)]:
        got += [(frame.type, frame.payload) for frame in reader.feed(wire[at : at + cut])]
        at += cut
    assert got == sent


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padding_and_priority_are_taken_off(padding):
    padded = bytes([padding]) + b"12345" + b"payload" + bytes(padding)
    flags = frames.PADDED | frames.PRIORITY
    (frame,) = frames.Reader(2**14).feed(frames.encode(frames.HEADERS, flags, 1, padded))
    assert frame.payload == b"payload"


def test_padding_longer_than_its_frame_is_refused():
    with pytest.raises(frames.ProtocolError):
        list(frames.Reader(2**14).feed(frames.encode(frames.DATA, frames.PADDED, 1, b"\x09ab")))
