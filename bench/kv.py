"""How fast KV moves: the grpc connector's server and client against a plain loopback TCP copy of the same bytes.

Server and client are processes of their own, as a prefill and a decode worker are. The copy is the least that any
transport through the kernel's sockets can cost: `sendall` on one side, `recv_into` on the other, nothing checked.
"""

import argparse
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

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


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one move."""

    seconds: float
    holder_cpu: float
    own_cpu: float


def costs(moves: Sequence[Callable[[], None]], holder_cpu: Callable[[], float], times: int) -> list[list[Cost]]:
    """What each costs, some times. They take turns, so that a busy machine slows all of them."""
    taken: list[list[Cost]] = [[] for _ in moves]
    for turn in range(times + 1):
        for cost, move in zip(taken, moves, strict=True):
            begin, theirs, ours = time.perf_counter(), holder_cpu(), time.process_time()
            move()
            seconds = time.perf_counter() - begin
            if turn:  # the first one warms up
                cost.append(Cost(seconds, holder_cpu() - theirs, time.process_time() - ours))
    return taken


def run(times: int = 30) -> dict[str, float]:
    """Prints both rates, the median ratio of neighbours, and what they cost the two sides."""
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

        grpc, tcp = costs([by_grpc, by_tcp], source.cpu_seconds, times)
    ratio = median(plain.seconds / ours.seconds for ours, plain in zip(grpc, tcp, strict=True))
    print(f"KV of 1,024 tokens, {TOTAL / 1e6:.0f} MB, {times} times")
    for name, taken in (("grpc", grpc), ("tcp", tcp)):
        rate = TOTAL / median(cost.seconds for cost in taken) / 1e9
        # Sums, because the kernel counts a process's CPU in steps of 10 ms.
        holder, own = (sum(cpu) / times * 1000 for cpu in zip(*((c.holder_cpu, c.own_cpu) for c in taken), strict=True))
        print(f"{name:>5}: {rate:.2f} GB/s; CPU: holder {holder:.0f} ms, fetching side {own:.0f} ms")
    print(f"ratio of the rates {ratio:.2f} (aim {AIM})")
    return {"ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holder", action="store_true", help="serve the bytes: the measurement starts this itself")
    holder() if parser.parse_args().holder else run()


if __name__ == "__main__":
    main()
