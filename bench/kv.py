"""How fast KV moves: the grpc connector's server and client against a plain loopback TCP copy of the same bytes.

Server and client are processes of their own, as a prefill and a decode worker are. The copy is the least that any
transport through the kernel's sockets can cost: `sendall` on one side, `recv_into` on the other, nothing checked.
"""

import argparse
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence

from tandem_engine.kv.client import KvClient, Source
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.kv.server import KvServer
from tandem_engine.kv.staging import StagedKv, Staging

from bench.processes import program

LAYERS, BLOCKS, HEADS = 32, 32, 8
HEAD_BYTES = 32 * 2 * 128 * 2
"""32 tokens of K and V, head size 128, two bytes each: a thousand tokens of an 8B model are 134 MB."""
TOTAL = LAYERS * BLOCKS * HEADS * HEAD_BYTES
LEASE, CONTENT = b"l" * 16, b"c" * 32
AIM = 0.7


def holder() -> None:
    """Serves the same bytes both ways until standard input ends."""
    layer = bytes(range(256)) * (TOTAL // LAYERS // 256)
    staging = Staging(LeaseLimits(max_bytes=2 * TOTAL, max_fetches=8, ttl=3600), time.monotonic)
    staging.stage(LEASE, StagedKv(CONTENT, BLOCKS, HEADS, HEAD_BYTES, [layer] * LAYERS))
    with socket.create_server(("127.0.0.1", 0)) as plain, KvServer(staging, "127.0.0.1:0") as server:

        def copy() -> None:
            while True:
                peer, _ = plain.accept()
                with peer:
                    for _ in range(LAYERS):
                        peer.sendall(layer)

        threading.Thread(target=copy, daemon=True).start()
        print(json.dumps({"grpc": server.port, "tcp": plain.getsockname()[1]}), flush=True)
        sys.stdin.read()


def rates(moves: Sequence[Callable[[], None]], times: int) -> list[float]:
    """Bytes per second of each, the median of some moves. They take turns, so that a busy machine slows all of them."""
    seconds: list[list[float]] = [[] for _ in moves]
    for turn in range(times + 1):
        for taken, move in zip(seconds, moves, strict=True):
            begin = time.perf_counter()
            move()
            if turn:  # the first one warms up
                taken.append(time.perf_counter() - begin)
    return [TOTAL / statistics.median(taken) for taken in seconds]


def run(times: int = 15) -> dict[str, float]:
    """Prints both rates and their ratio."""
    layers = [memoryview(bytearray(TOTAL // LAYERS)) for _ in range(LAYERS)]
    with program("bench.kv", "--holder") as source, KvClient() as client:

        def by_grpc() -> None:
            client.fetch(Source(f"127.0.0.1:{source.ready['grpc']}", LEASE, CONTENT), layers, 60).run()

        def by_tcp() -> None:
            with socket.create_connection(("127.0.0.1", source.ready["tcp"])) as peer:
                for layer in layers:
                    got = 0
                    while got < len(layer):
                        got += peer.recv_into(layer[got:])

        grpc, tcp = rates([by_grpc, by_tcp], times)
    print(f"KV of 1,024 tokens, {TOTAL / 1e6:.0f} MB: grpc {grpc / 1e9:.2f} GB/s, tcp {tcp / 1e9:.2f} GB/s, ", end="")
    print(f"ratio {grpc / tcp:.2f} (aim {AIM})")
    return {"grpc": grpc, "tcp": tcp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holder", action="store_true", help="serve the bytes: the measurement starts this itself")
    holder() if parser.parse_args().holder else run()


if __name__ == "__main__":
    main()
