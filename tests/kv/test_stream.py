"""A call's answer read from the socket, against peers that say what a test has them say."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import hpack
import pytest
from tandem_engine.kv import stream as streams
from tandem_engine.kv.stream import CallFailed, Stream
from tandem_proto.http2 import frames
from tandem_proto.http2.frames import ProtocolError, encode

TIMEOUT = 60.0
BEGIN = encode(frames.SETTINGS, 0, 0)


def headers(values: dict[str, str], flags: int = frames.END_HEADERS) -> bytes:
    return encode(frames.HEADERS, flags, 1, hpack.Encoder().encode(values.items()))


OK = headers({":status": "200"})
END = headers({"grpc-status": "0"}, frames.END_HEADERS | frames.END_STREAM)


@contextlib.contextmanager
def peer(said: bytes, *, closes: bool = False) -> Iterator[tuple[str, bytearray]]:
    """An address that says that to whoever comes, and what it hears."""
    heard = bytearray()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(said)
            if closes:
                connection.shutdown(socket.SHUT_WR)
            while got := connection.recv(2**16):
                heard.extend(got)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(TIMEOUT)


def answer(said: bytes, *, timeout: float = TIMEOUT, closes: bool = False) -> tuple[bytes, bytes]:
    """What a call reads of it, and what it said itself."""
    with peer(said, closes=closes) as (address, heard), Stream(address, None, timeout, time.monotonic) as stream:
        got = stream.ask("/test.Service/Call", b"request").read()
    return got, bytes(heard)


def test_data_is_read_whatever_stands_between_its_frames() -> None:
    data = bytes(range(256)) * 100
    said = (
        BEGIN
        + encode(frames.HEADERS, 0, 1, hpack.Encoder().encode([(":status", "200")]))
        + encode(frames.CONTINUATION, frames.END_HEADERS, 1, hpack.Encoder().encode([("x", "y")]))
        + encode(frames.DATA, 0, 1, data[:5])
        + encode(frames.PING, 0, 0, b"are you?")
        + encode(frames.DATA, 0, 1)
        + encode(frames.DATA, frames.PADDED, 1, b"\x03" + data[5:9] + b"\0\0\0")
        + encode(frames.WINDOW_UPDATE, 0, 0, bytes(3) + b"\x01")
        + encode(frames.GOAWAY, 0, 0, (2**31 - 1).to_bytes(4, "big") + bytes(4))
        + encode(frames.DATA, 0, 1, data[9:])
        + END
    )
    got, heard = answer(said)
    assert got == data
    assert heard.startswith(frames.PREFACE)
    assert encode(frames.SETTINGS, frames.ACK, 0) in heard
    assert encode(frames.PING, frames.ACK, 0, b"are you?") in heard
    assert b"\0\0\0\0\x07request" in heard


def test_the_peers_window_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_WINDOW", 2**17)
    _, heard = answer(BEGIN + OK + encode(frames.DATA, 0, 1, bytes(2**16 + 1)) + END)
    assert frames.window_update(0, 2**16 + 1) + frames.window_update(1, 2**16 + 1) in heard


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (headers({":status": "200", "grpc-status": "5", "grpc-message": "no%20lease"}, 5), "NOT_FOUND: no lease"),
        (headers({":status": "404"}), "UNAVAILABLE: HTTP status 404"),
        (OK + encode(frames.RST_STREAM, 0, 1, bytes(4)), "UNAVAILABLE: the peer reset"),
        (encode(frames.GOAWAY, 0, 0, bytes(8)), "UNAVAILABLE: the peer takes no calls"),
    ],
)
def test_an_error_of_the_peer_ends_the_call(said: bytes, expected: str) -> None:
    with pytest.raises(CallFailed, match=expected):
        answer(BEGIN + said)


@pytest.mark.parametrize(
    "said",
    [
        encode(frames.DATA, frames.END_STREAM, 1, b"no status"),
        encode(frames.DATA, frames.PADDED, 1, b"\x09ab"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_peer_that_does_not_speak_http2_is_refused(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        answer(said)


@pytest.mark.parametrize("said", [b"", BEGIN[:4], BEGIN + OK + encode(frames.DATA, 0, 1, b"data")[:-1]])
def test_a_connection_that_ends_before_the_call_is_an_error(said: bytes) -> None:
    with pytest.raises(ConnectionError):
        answer(said, closes=True)


def test_a_peer_that_says_nothing_takes_the_time_at_most() -> None:
    with pytest.raises(TimeoutError):
        answer(BEGIN, timeout=0.1)


def test_a_peer_that_has_vanished_is_noticed_before_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.1)
    with pytest.raises(ConnectionError, match="silent"):
        answer(BEGIN)


def test_a_cancelled_call_stops_reading() -> None:
    with peer(BEGIN) as (address, _), Stream(address, None, TIMEOUT, time.monotonic) as stream:
        reader = stream.ask("/test.Service/Call", b"")
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(ConnectionError):
            reader.read(1)


def test_the_status_is_told_from_success() -> None:
    with pytest.raises(CallFailed) as failed:
        answer(BEGIN + OK + headers({"grpc-status": "8"}, frames.END_HEADERS | frames.END_STREAM))
    assert failed.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
