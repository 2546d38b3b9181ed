"""A holder's connection as grpcio's client sees it, and as peers do that break the rules."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import hpack
import pytest
from tandem_engine.kv import connection as connections
from tandem_engine.kv.leases import LeaseCounts, LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_proto.channels import sync_channel
from tandem_proto.http2 import frames
from tandem_proto.http2.calls import request_headers
from tandem_proto.tandem.v1 import kv_pb2, kv_pb2_grpc

LEASE, HASH = b"0123456789abcdef", b"h" * 32
LAYER = bytes(range(256)) * 2**14
REQUEST = kv_pb2.FetchRequest(lease=LEASE, content_hash=HASH)
TIMEOUT = 60.0


@pytest.fixture
def staging() -> Staging:
    staging = Staging(LeaseLimits(max_bytes=2**30, max_fetches=8, ttl=60.0), time.monotonic)
    staging.stage(LEASE, StagedKv(HASH, 1, 1, len(LAYER), [LAYER, LAYER]))
    return staging


@pytest.fixture
def holder(staging: Staging) -> Iterator[KvServer]:
    with KvServer(staging, "127.0.0.1:0") as server:
        yield server


@pytest.fixture
def stub(holder: KvServer) -> Iterator[kv_pb2_grpc.KvTransferStub]:
    with sync_channel(f"127.0.0.1:{holder.port}", None) as channel:
        yield kv_pb2_grpc.KvTransferStub(channel)


def whole(stub: kv_pb2_grpc.KvTransferStub) -> bytes:
    return b"".join(message.data for message in stub.Fetch(REQUEST, timeout=TIMEOUT))


def test_grpcio_with_its_small_frames_and_windows_gets_every_byte(stub: kv_pb2_grpc.KvTransferStub) -> None:
    assert whole(stub) == LAYER + LAYER


def test_calls_of_one_connection_are_all_answered(stub: kv_pb2_grpc.KvTransferStub) -> None:
    with ThreadPoolExecutor(4) as pool:
        fetches = [pool.submit(whole, stub) for _ in range(4)]
        renewed = stub.Renew(kv_pb2.RenewRequest(lease=LEASE), timeout=TIMEOUT)
        assert all(fetch.result(TIMEOUT) == LAYER + LAYER for fetch in fetches)
    assert renewed.ttl_ms == 60_000


def test_a_lease_is_renewed_while_a_fetch_on_the_same_connection_stands_still(
    stub: kv_pb2_grpc.KvTransferStub,
) -> None:
    fetch = stub.Fetch(REQUEST, timeout=TIMEOUT)
    next(fetch)
    assert stub.Renew(kv_pb2.RenewRequest(lease=LEASE), timeout=TIMEOUT).ttl_ms == 60_000
    fetch.cancel()


def test_a_fetch_that_its_client_resets_ends_and_the_connection_serves_on(
    stub: kv_pb2_grpc.KvTransferStub, staging: Staging
) -> None:
    endless = b"ENDLESS KV" + bytes(6)  # more than all buffers and windows take
    staging.stage(endless, StagedKv(HASH, 1, 1, len(LAYER), [LAYER] * 64))
    fetch = stub.Fetch(kv_pb2.FetchRequest(lease=endless, content_hash=HASH), timeout=TIMEOUT)
    next(fetch)
    assert staging.counts().fetches == 1
    fetch.cancel()
    wait_for(lambda: staging.counts().fetches == 0)
    assert stub.Release(kv_pb2.ReleaseRequest(lease=endless), timeout=TIMEOUT).released
    assert staging.counts() == LeaseCounts(leases=1, bytes=2 * len(LAYER), fetches=0)


@pytest.mark.parametrize(
    ("method", "request_bytes", "expected"),
    [
        ("Guess", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("Fetch", b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("Renew", kv_pb2.RenewRequest(lease=b"unknown").SerializeToString(), grpc.StatusCode.NOT_FOUND),
    ],
)
def test_what_can_not_be_answered_is_an_error_of_the_call(
    holder: KvServer, method: str, request_bytes: bytes, expected: grpc.StatusCode
) -> None:
    with sync_channel(f"127.0.0.1:{holder.port}", None) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary(f"/tandem.v1.KvTransfer/{method}")(request_bytes, timeout=TIMEOUT)
        assert failed.value.code() is expected


def test_a_fault_of_the_holder_is_told_without_its_details(staging: Staging) -> None:
    def fail(message: bytes) -> bytes:
        raise RuntimeError("secret")

    with (
        KvServer(staging, "127.0.0.1:0", tamper=fail) as server,
        sync_channel(f"127.0.0.1:{server.port}", None) as channel,
        pytest.raises(grpc.RpcError) as failed,
    ):
        whole(kv_pb2_grpc.KvTransferStub(channel))
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in failed.value.details()
    assert staging.counts().fetches == 0


def said(path: str, flags: int) -> bytes:
    block = hpack.Encoder().encode(request_headers(path, "holder", encrypted=False))
    return frames.PREFACE + frames.settings({}) + frames.encode(frames.HEADERS, flags, 1, block)


@pytest.mark.parametrize(
    "what",
    [
        b"GET / HTTP/1.1\r\nHost: holder\r\n\r\n" + bytes(24),
        frames.PREFACE + bytes([0xFF] * 9),
        frames.PREFACE + frames.encode(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        said("/tandem.v1.KvTransfer/Renew", frames.END_HEADERS) + frames.encode(frames.DATA, 0, 1, bytes(2**14)) * 5,
    ],
    ids=["HTTP/1", "a frame too large", "headers that can't be read", "a request without end"],
)
def test_a_peer_that_breaks_the_rules_loses_its_connection(holder: KvServer, what: bytes) -> None:
    with socket.create_connection(("127.0.0.1", holder.port), TIMEOUT) as peer:
        with contextlib.suppress(ConnectionError):  # it may be cut off before it has said all
            peer.sendall(what)
        read_to_the_end(peer)


def test_a_call_without_a_request_is_an_error(holder: KvServer) -> None:
    with socket.create_connection(("127.0.0.1", holder.port), TIMEOUT) as peer:
        peer.sendall(said("/tandem.v1.KvTransfer/Fetch", frames.END_HEADERS | frames.END_STREAM))
        peer.shutdown(socket.SHUT_WR)
        assert b"a message is cut" in b"".join(decoded(read_to_the_end(peer)))


def test_a_silent_peer_loses_its_connection(holder: KvServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    with socket.create_connection(("127.0.0.1", holder.port), TIMEOUT) as peer:
        peer.sendall(frames.PREFACE)
        read_to_the_end(peer)


def test_nothing_is_left_of_a_server_that_ended(holder: KvServer, stub: kv_pb2_grpc.KvTransferStub) -> None:
    assert whole(stub)
    holder.__exit__(None, None, None)
    wait_for(lambda: not {thread.name for thread in threading.enumerate()} & {"kv-server", "kv-connection"})


def read_to_the_end(peer: socket.socket) -> bytes:
    got = b""
    try:
        while more := peer.recv(2**16):
            got += more
    except ConnectionResetError:
        pass
    return got


def decoded(answer: bytes) -> Iterator[bytes]:
    """What headers say."""
    decoder = hpack.Decoder()
    for kind, _, _, payload in frames.Reader(2**14).feed(answer):
        if kind == frames.HEADERS:
            for _, value in decoder.decode(payload):
                yield str(value).replace("%20", " ").encode()


def wait_for(holds) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)
