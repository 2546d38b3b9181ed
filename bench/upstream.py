"""A paced HTTP upstream for routers that speak HTTP to their workers: what a step engine looks like from outside.

All streams of a server get their chunk in the same step, every `--step` seconds, and the first one at the next step: as
the virtual engine does behind our router. Chunks that leave more than 5 ms after they were due are counted.

`python -m bench.upstream --servers 4 --step 0.02` prints one JSON line with the ports; each line on standard input is
answered with the counts.
"""

import argparse
import asyncio
import json
import sys
import time
from functools import partial
from typing import cast

LATE_SECONDS = 0.005


def chunk(index: int, tokens: int) -> bytes:
    """An OpenAI chat chunk, chunked-encoded; the last one carries usage and [DONE] behind it."""
    base = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk", "created": 0, "model": "bench"}
    delta = {"role": "assistant", "content": " word"} if index == 0 else {"content": " word"}
    events = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}]
    if index == tokens - 1:
        events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        usage = {"prompt_tokens": 32, "completion_tokens": tokens, "total_tokens": 32 + tokens}
        events.append({**base, "choices": [], "usage": usage})
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    if index == tokens - 1:
        data += b"data: [DONE]\n\n"
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Steps:
    """The step loop that all connections of one server share."""

    def __init__(self, step: float) -> None:
        self._step = step
        self.active: dict[Connection, int] = {}
        self.chunks = 0
        self.late = 0
        self.ttft: list[float] = []
        self._chunks: dict[int, list[bytes]] = {}

    def encoded(self, tokens: int) -> list[bytes]:
        if tokens not in self._chunks:
            self._chunks[tokens] = [chunk(index, tokens) for index in range(tokens)]
        return self._chunks[tokens]

    async def run(self, phase: float) -> None:
        due = time.perf_counter() + phase
        while True:
            due += self._step
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            late = time.perf_counter() - due > LATE_SECONDS
            for connection, sent in list(self.active.items()):
                self.chunks += 1
                self.late += late
                if connection.emit(sent):
                    self.active[connection] = sent + 1
                else:
                    del self.active[connection]


class Connection(asyncio.Protocol):
    """One connection from a router: requests one after another."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._buffer = b""
        self._tokens = 0
        self._stream = False
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._steps.active.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + length], self._buffer[end + 4 + length :]
        if not head.startswith(b"post"):
            self._answer(b'{"object": "list", "data": [{"id": "bench", "object": "model"}]}')
            return
        asked = json.loads(body)
        self._tokens, self._stream = asked["max_tokens"], bool(asked.get("stream"))
        self._steps.active[self] = 0
        self._asked = time.perf_counter()

    def emit(self, index: int) -> bool:
        """One step for this connection; whether it goes on."""
        last = index == self._tokens - 1
        if index == 0:
            self._steps.ttft.append(time.perf_counter() - self._asked)
        if not self._stream:
            if last:
                message = {"role": "assistant", "content": " word" * self._tokens}
                choices = [{"index": 0, "message": message, "finish_reason": "length"}]
                self._answer(json.dumps({"id": "chatcmpl-0", "object": "chat.completion", "choices": choices}).encode())
            return not last
        data = self._steps.encoded(self._tokens)[index]
        if index == 0:
            data = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + data
        self._transport.write(data + b"0\r\n\r\n" if last else data)
        return not last

    def _answer(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def serve(servers: int, step: float) -> None:
    loop = asyncio.get_running_loop()
    steps = [Steps(step) for _ in range(servers)]
    listening = [await loop.create_server(partial(Connection, s), "127.0.0.1", 0) for s in steps]
    tasks = [asyncio.create_task(s.run(step * i / servers)) for i, s in enumerate(steps)]
    print(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in listening]}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        counts = {"chunks": sum(s.chunks for s in steps), "late": sum(s.late for s in steps)}
        print(json.dumps({**counts, "ttft": [t for s in steps for t in s.ttft]}), flush=True)
        for s in steps:
            s.ttft.clear()
    for task in tasks:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--step", type=float, default=0.02)
    args = parser.parse_args()
    import uvloop

    uvloop.run(serve(args.servers, args.step))


if __name__ == "__main__":
    main()
