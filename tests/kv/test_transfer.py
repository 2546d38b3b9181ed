import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tandem_engine.errors import KvGone
from tandem_engine.kv import server as kv_server
from tandem_engine.kv.assembly import FetchFailed
from tandem_engine.kv.client import KvClient, Source
from tandem_engine.kv.leases import LeaseCounts, LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging
from tandem_proto.channels import Tls, sync_channel
from tandem_proto.tandem.v1 import kv_pb2, kv_pb2_grpc

from tests.authority import Authority

LEASE = b"0123456789abcdef"
HASH = b"h" * 32
BLOCKS, HEADS, HEAD_BYTES, LAYERS = 5, 4, 250_000, 3
TIMEOUT = 60.0


@pytest.fixture
def layers() -> list[np.ndarray]:
    random = np.random.default_rng(7)
    return [random.integers(0, 256, (BLOCKS, HEADS, HEAD_BYTES), dtype=np.uint8) for _ in range(LAYERS)]


@pytest.fixture
def staging(layers: list[np.ndarray]) -> Staging:
    staging = Staging(LeaseLimits(max_bytes=2**30, max_fetches=2, ttl=60.0), time.monotonic)
    staging.stage(LEASE, StagedKv(HASH, BLOCKS, HEADS, HEAD_BYTES, [layer.data for layer in layers]))
    return staging


@pytest.fixture
def client() -> Iterator[KvClient]:
    with KvClient() as client:
        yield client


@pytest.fixture
def holder(staging: Staging) -> Iterator[KvServer]:
    with KvServer(staging, "127.0.0.1:0") as server:
        yield server


def source(server: KvServer, **changes: object) -> Source:
    fields: dict[str, object] = {"address": f"127.0.0.1:{server.port}", "lease": LEASE, "content_hash": HASH}
    return Source(**{**fields, **changes})


def buffers(blocks: int = BLOCKS, heads: int = HEADS, layers: int = LAYERS) -> list[np.ndarray]:
    return [np.zeros((blocks, heads, HEAD_BYTES), dtype=np.uint8) for _ in range(layers)]


def fetch(client: KvClient, what: Source, into: list[np.ndarray]) -> int:
    return client.fetch(what, [buffer.data for buffer in into], TIMEOUT).run()


def reason(client: KvClient, what: Source, into: list[np.ndarray] | None = None) -> str:
    with pytest.raises(FetchFailed) as failed:
        fetch(client, what, into or buffers())
    return failed.value.reason


def test_all_bytes_arrive_and_are_counted(
    client: KvClient, holder: KvServer, staging: Staging, layers: list[np.ndarray]
) -> None:
    into = buffers()
    assert fetch(client, source(holder), into) == sum(layer.nbytes for layer in layers)
    assert all((ours == theirs).all() for ours, theirs in zip(into, layers, strict=True))
    assert holder.bytes_sent == sum(layer.nbytes for layer in layers)
    assert staging.counts().fetches == 0


def test_blocks_that_the_caller_has_are_skipped(client: KvClient, holder: KvServer, layers: list[np.ndarray]) -> None:
    into = buffers(blocks=2)
    fetch(client, source(holder, first_block=3), into)
    assert all((ours == theirs[3:]).all() for ours, theirs in zip(into, layers, strict=True))


def test_a_range_of_heads_is_cut_out(client: KvClient, holder: KvServer, layers: list[np.ndarray]) -> None:
    into = buffers(heads=2)
    fetch(client, source(holder, head_start=1, head_count=2), into)
    assert all((ours == theirs[:, 1:3]).all() for ours, theirs in zip(into, layers, strict=True))


def test_nothing_wanted_is_no_error(client: KvClient, holder: KvServer) -> None:
    assert fetch(client, source(holder, first_block=BLOCKS), buffers(blocks=0)) == 0


def test_messages_are_bounded(staging: Staging, client: KvClient) -> None:
    sizes: list[int] = []

    def note(message: bytes) -> bytes:
        sizes.append(len(message))
        return message

    with KvServer(staging, "127.0.0.1:0", tamper=note) as server:
        fetch(client, source(server), buffers())
    assert max(sizes) <= kv_server.PIECE_BYTES + 64


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lease": b"unknown"}, "gone"),
        ({"content_hash": b"other"}, "refused"),
        ({"head_start": 3, "head_count": 2}, "refused"),
        ({"first_block": BLOCKS + 1}, "refused"),
    ],
)
def test_a_wrong_request_fails_with_its_reason(
    client: KvClient, holder: KvServer, changes: dict, expected: str
) -> None:
    assert reason(client, source(holder, **changes)) == expected


def test_an_expired_lease_is_gone(client: KvClient, layers: list[np.ndarray]) -> None:
    now = 0.0
    staging = Staging(LeaseLimits(2**30, 2, ttl=5.0), lambda: now)
    staging.stage(LEASE, StagedKv(HASH, BLOCKS, HEADS, HEAD_BYTES, [layer.data for layer in layers]))
    with KvServer(staging, "127.0.0.1:0") as server:
        now = 5.0
        assert reason(client, source(server)) == "gone"
    assert staging.counts() == LeaseCounts(0, 0, 0)


def test_bytes_damaged_on_the_wire_are_refused(staging: Staging, client: KvClient) -> None:
    def flip(message: bytes) -> bytes:
        return message[:-1] + bytes([message[-1] ^ 1])

    with KvServer(staging, "127.0.0.1:0", tamper=flip) as server:
        assert reason(client, source(server)) == "checksum"


def test_a_piece_that_comes_in_anothers_place_is_seen(staging: Staging, client: KvClient) -> None:
    earlier: list[bytes] = []

    def repeat(message: bytes) -> bytes:
        earlier.append(message)
        return earlier[0]

    with KvServer(staging, "127.0.0.1:0", tamper=repeat) as server:
        assert reason(client, source(server)) == "cut"


def test_a_holder_of_fewer_layers_is_seen(client: KvClient, holder: KvServer) -> None:
    assert reason(client, source(holder), buffers(layers=LAYERS + 1)) == "cut"
    assert reason(client, source(holder), buffers(layers=LAYERS - 1)) == "cut"


def test_a_holder_that_is_not_there_is_unreachable(client: KvClient) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert reason(client, Source(address, LEASE, HASH)) == "unreachable"


def test_over_mutual_tls_bytes_arrive_and_strangers_are_refused(
    staging: Staging, layers: list[np.ndarray], tmp_path: Path
) -> None:
    authority = Authority.make()
    with KvServer(staging, "127.0.0.1:0", Tls(authority.secret(tmp_path / "holder"))) as server:
        with KvClient(Tls(authority.secret(tmp_path / "peer"))) as peer:
            into = buffers()
            fetch(peer, source(server), into)
            assert all((ours == theirs).all() for ours, theirs in zip(into, layers, strict=True))
        for tls in (None, Tls(Authority.make().secret(tmp_path / "stranger"))):
            with KvClient(tls) as stranger:
                assert reason(stranger, source(server)) == "unreachable"


def test_a_client_that_closes_ends_what_it_fetches(staging: Staging) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def stall(message: bytes) -> bytes:
        begun.set()
        go_on.wait(TIMEOUT)
        return message

    with KvServer(staging, "127.0.0.1:0", tamper=stall) as server, ThreadPoolExecutor(1) as pool:
        with KvClient() as client:
            running = pool.submit(reason, client, source(server))
            assert begun.wait(TIMEOUT)
        assert running.result(TIMEOUT) == "cancelled"
        go_on.set()


def test_a_holder_that_dies_in_the_middle_cuts_the_stream(staging: Staging, client: KvClient) -> None:
    begun, dead = threading.Event(), threading.Event()

    def stall(message: bytes) -> bytes:
        begun.set()
        dead.wait(TIMEOUT)
        return message

    with ThreadPoolExecutor(1) as pool:
        with KvServer(staging, "127.0.0.1:0", tamper=stall) as server:
            running = pool.submit(reason, client, source(server))
            assert begun.wait(TIMEOUT)
        dead.set()
        assert running.result(TIMEOUT) in ("cut", "unreachable")
    end = time.monotonic() + TIMEOUT
    while staging.counts().fetches:  # the holder's thread has yet to notice
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_cancelled_fetch_ends_on_both_sides(staging: Staging, client: KvClient) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def stall(message: bytes) -> bytes:
        begun.set()
        go_on.wait(TIMEOUT)
        return message

    with KvServer(staging, "127.0.0.1:0", tamper=stall) as server, ThreadPoolExecutor(1) as pool:
        running_fetch = client.fetch(source(server), [buffer.data for buffer in buffers()], TIMEOUT)
        running = pool.submit(running_fetch.run)
        assert begun.wait(TIMEOUT)
        running_fetch.cancel()
        with pytest.raises(FetchFailed) as failed:
            running.result(TIMEOUT)
        assert failed.value.reason == "cancelled"
        go_on.set()
        wait_until(lambda: staging.counts().fetches == 0)


def test_a_fetch_cancelled_before_it_begins_asks_nobody(client: KvClient) -> None:
    waiting = client.fetch(Source("127.0.0.1:1", LEASE, HASH), [], TIMEOUT)
    waiting.cancel()
    with pytest.raises(FetchFailed, match="before it began"):
        waiting.run()


def test_a_busy_holder_is_asked_again(staging: Staging, client: KvClient, holder: KvServer) -> None:
    into = buffers()
    with ThreadPoolExecutor(1) as pool:
        with staging.reading(LEASE), staging.reading(LEASE):
            running = pool.submit(fetch, client, source(holder), into)
            wait_until(lambda: running.running())
        assert running.result(TIMEOUT) > 0


def test_a_holder_that_stays_busy_is_given_up(staging: Staging, client: KvClient, holder: KvServer) -> None:
    with staging.reading(LEASE), staging.reading(LEASE), pytest.raises(FetchFailed) as failed:
        client.fetch(source(holder), [buffer.data for buffer in buffers()], 0.2).run()
    assert failed.value.reason in ("busy", "timeout")


def test_a_reader_that_stalls_is_cut_off_when_a_leases_time_is_over(layers: list[np.ndarray]) -> None:
    now, begun = 0.0, threading.Event()

    def note(message: bytes) -> bytes:
        begun.set()
        return message

    # The lease's time stands still until the fetch has begun; the fetch's own time is the machine's.
    staging = Staging(LeaseLimits(2**30, 2, ttl=0.5), lambda: now)
    staging.stage(LEASE, StagedKv(HASH, BLOCKS, HEADS, HEAD_BYTES, [layer.data for layer in layers]))
    with (
        KvServer(staging, "127.0.0.1:0", tamper=note) as server,
        sync_channel(f"127.0.0.1:{server.port}", None) as channel,
    ):
        unread = kv_pb2_grpc.KvTransferStub(channel).Fetch(
            kv_pb2.FetchRequest(lease=LEASE, content_hash=HASH), timeout=TIMEOUT
        )
        assert begun.wait(TIMEOUT)
        now = 0.5
        wait_until(lambda: staging.counts() == LeaseCounts(0, 0, 0))
        assert server.bytes_sent < sum(layer.nbytes for layer in layers)
        unread.cancel()


def test_a_lease_is_handed_on_and_released_over_the_wire(client: KvClient, holder: KvServer, staging: Staging) -> None:
    address, drawn = f"127.0.0.1:{holder.port}", b"f" * 16
    assert client.renew(address, LEASE, next_lease=drawn, timeout=TIMEOUT) == 60.0
    assert reason(client, source(holder)) == "gone"
    assert fetch(client, source(holder, lease=drawn), buffers()) > 0
    with pytest.raises(KvGone):
        client.renew(address, LEASE, timeout=TIMEOUT)
    assert client.release(address, drawn, timeout=TIMEOUT)
    assert not client.release(address, drawn, timeout=TIMEOUT)
    assert staging.counts() == LeaseCounts(0, 0, 0)


def test_expired_kv_leaves_the_memory_without_being_asked_for(layers: list[np.ndarray]) -> None:
    staging = Staging(LeaseLimits(2**30, 2, ttl=0.05), time.monotonic)
    with KvServer(staging, "127.0.0.1:0"):
        staging.stage(LEASE, StagedKv(HASH, BLOCKS, HEADS, HEAD_BYTES, [layer.data for layer in layers]))
        wait_until(lambda: not list(staging._book))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)
