"""A load client that costs little: it counts events and times first ones, and parses nothing else.

It runs as a program of its own (`python -m bench.client`), so that its CPU is not the router's. Each connection sends
its requests one after another; the connections start spread over one second.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import cast

KEY = "a-key-of-the-measurement"
"""Every request shows it, whether it is asked for or not."""
EVENT = b"data: "
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Tally:
    """What all connections saw. `ttft` in seconds, from the request's last byte to the first event or body byte."""

    ttft: list[float] = field(default_factory=list)
    events: int = 0
    requests: int = 0
    failures: int = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self, request: bytes, stream: bool, tally: Tally) -> None:
        self._request, self._stream, self._tally = request, stream, tally
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._sent = 0.0
        self._head = b""
        self._in_body = False
        self._missing = 0
        self._tail = b""
        self._first = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done and not self._done.done():
            self._tally.failures += 1
            self._done.set_result(None)

    async def ask(self) -> None:
        assert self._transport
        self._done = asyncio.get_running_loop().create_future()
        self._head, self._in_body, self._tail, self._first = b"", False, b"", False
        self._transport.write(self._request)
        self._sent = time.perf_counter()
        async with asyncio.timeout(120):
            await self._done

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if not self._in_body:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data = self._head[:end], self._head[end + 4 :]
            if not head.startswith(b"HTTP/1.1 200"):
                self._tally.failures += 1
            length = head.lower().find(b"content-length:")
            self._missing = int(head[length + 15 :].split(b"\r", 1)[0]) if length >= 0 else -1
            self._in_body = True
        if data and not self._first:
            self._first = True
            self._tally.ttft.append(round(time.perf_counter() - self._sent, 6))
        if self._missing >= 0:
            self._missing -= len(data)
            over = self._missing <= 0
        else:
            self._tally.events += data.count(EVENT)
            self._tail = (self._tail + data)[-5:]
            over = self._tail == LAST_CHUNK
        if over and self._done and not self._done.done():
            self._tally.requests += 1
            self._done.set_result(None)


def request_bytes(port: int, model: str, tokens: int, stream: bool) -> bytes:
    """The same chat request for every router."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Say something. " * 8}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        }
    ).encode()
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def drive(port: int, model: str, connections: int, rounds: int, tokens: int, stream: bool) -> Tally:
    tally = Tally()
    request = request_bytes(port, model, tokens, stream)
    loop = asyncio.get_running_loop()

    async def one(index: int) -> None:
        await asyncio.sleep(index / connections)
        _, connection = await loop.create_connection(lambda: Connection(request, stream, tally), "127.0.0.1", port)
        for _ in range(rounds):
            await connection.ask()
        connection.close()

    async with asyncio.TaskGroup() as group:
        for index in range(connections):
            group.create_task(one(index))
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="bench")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--no-stream", action="store_true")
    args = parser.parse_args()
    import uvloop

    tally = uvloop.run(
        drive(args.port, args.model, args.connections, args.rounds, args.tokens, stream=not args.no_stream)
    )
    print(json.dumps(vars(tally)))


if __name__ == "__main__":
    main()
