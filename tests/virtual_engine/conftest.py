"""Virtual engines in virtual time: no test of this folder waits for the clock."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from tandem_api.inference_service import KvTransferSpec, VirtualEngineSpec
from tandem_engine.engine import Call
from tandem_engine.virtual import VirtualEngine
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2

TIMEOUT = 60.0


class VirtualClock:
    """Time that passes only in `sleep`, and at once."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def time(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000 + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)
        await asyncio.sleep(0)


@dataclass
class RecordedReply:
    """Takes an answer."""

    status: int = 0
    content_type: str = ""
    content_bytes: int = 0
    kv: worker_pb2.KvReport | None = None
    chunks: list[bytes] = field(default_factory=list)
    on_data: Callable[[], None] | None = None

    def started(self, status: int, content_type: str, content_bytes: int, kv: worker_pb2.KvReport) -> None:
        assert not self.status, "started twice"
        self.status, self.content_type, self.content_bytes, self.kv = status, content_type, content_bytes, kv

    def data(self, chunk: bytes) -> None:
        assert self.status, "data before started"
        self.chunks.append(chunk)
        if self.on_data is not None:
            self.on_data()

    @property
    def bytes(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        assert self.content_bytes in (0, len(self.bytes))
        return json.loads(self.bytes)

    @property
    def events(self) -> list[Any]:
        *events, done, rest = self.bytes.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events]

    @property
    def text(self) -> str:
        if self.content_type == "application/json":
            choice = self.json["choices"][0]
            return choice["message"]["content"] if "message" in choice else choice["text"]
        choices = [choice for event in self.events for choice in event["choices"]]
        return "".join(
            choice["delta"].get("content", "") if "delta" in choice else choice["text"] for choice in choices
        )


def call(
    body: dict[str, Any], *, api: str = "chat", kv: kv_pb2.KvHandle | None = None, priority: int = 0, whole: str = ""
) -> Call:
    kind = worker_pb2.API_CHAT_COMPLETIONS if api == "chat" else worker_pb2.API_COMPLETIONS
    prefix = "chatcmpl" if api == "chat" else "cmpl"
    return Call(f"{prefix}-1", kind, json.dumps(body).encode(), kv=kv, priority=priority, whole_reason=whole)


def chat(content: Any = "Tell me of rivers.", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **fields}


def words(count: int, first: int = 0) -> list[int]:
    """A prompt of so many tokens, for /v1/completions."""
    return [1000 + first, *range(16, 16 + count - 1)]


StartEngine = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[StartEngine]:
    """Starts engines that end with the test: `await start("prefill", slots=2, kv={"lease_ttl": 5})`."""
    async with AsyncExitStack() as running:

        async def start_one(
            role: str = "decode",
            *,
            clock: VirtualClock | None = None,
            kv: dict[str, Any] | None = None,
            identity: dict[str, str] | None = None,
            max_tokens: int = 8192,
            max_waiting: int = 256,
            **spec: Any,
        ) -> VirtualEngine:
            who = {"name": f"{role}-0", "model": "m", "version": "v1", "revision": "r1", **(identity or {})}
            engine = VirtualEngine(
                VirtualEngineSpec(**{"answer_tokens": 12, "bytes_per_token": 64, "block_size": 16, **spec}),
                KvTransferSpec(**(kv or {})),
                worker_pb2.Identity(role=worker_pb2.Role.Value(f"ROLE_{role.upper()}"), **who),
                max_tokens=max_tokens,
                max_waiting=max_waiting,
                clock=clock or VirtualClock(),
            )
            return await running.enter_async_context(engine)

        yield start_one


async def settle() -> None:
    """Lets all that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
