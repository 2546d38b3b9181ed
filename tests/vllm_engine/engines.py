"""Engines for tests, and short ways to ask them."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tandem_api.worker import Ports, WorkerConfig
from tandem_engine.engine import Call, Counters, Outcome
from tandem_engine.vllm import VllmEngine
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2
from vllm.v1.engine.exceptions import EngineDeadError

from tests.loopback import free_port
from tests.surfaces.transport import Recorder
from tests.vllm_engine.sabotage import FAULT_FILE

MODEL = "tiny"
BLOCK = 32
LEASE_TTL = 10.0
"""Longer than a process is held up on a busy machine: no lease that is in use may end by it."""
BLOCK_BYTES = 4 * 2 * BLOCK * 2 * 64 * 4
"""Of one block of the tiny model: layers x heads x tokens x (K and V) x head_dim x float32."""
ARGS = (
    "--max-model-len=2048",
    "--max-num-seqs=8",
    f"--kv-cache-memory-bytes={80 * BLOCK_BYTES}",  # little enough that requests are preempted
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    # A model of random weights would indent its JSON for ever.
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
    "--max-num-batched-tokens=512",  # prompts beyond it are computed in chunks
)


def config(role: str, connector: str = "grpc", tensor_parallel: int = 1, **changes: Any) -> WorkerConfig:
    settings: dict[str, Any] = {
        "role": role,
        "service": "default/tiny",
        "model": MODEL,
        "version": "v1",
        "revision": "r1",
        "engine": {"type": "vllm", "args": ARGS},
        "tensor_parallel": tensor_parallel,
        "kv_transfer": {"connector": connector, "lease_ttl": LEASE_TTL, "max_staged_bytes": 40 * BLOCK_BYTES},
        "ports": Ports(kv=free_port(tensor_parallel + 1)),
        "max_tokens": 64,
    }
    return WorkerConfig(**{**settings, **changes})


@asynccontextmanager
async def running(model: Path, *configs: WorkerConfig) -> AsyncIterator[list[VllmEngine]]:
    """Starts engines side by side."""
    engines = [
        VllmEngine.from_config(each, model_dir=model, name=f"{each.role}-0", host="127.0.0.1") for each in configs
    ]
    started = await asyncio.gather(*(engine.__aenter__() for engine in engines), return_exceptions=True)
    alive = [engine for engine in started if isinstance(engine, VllmEngine)]
    try:
        for each in started:
            if isinstance(each, BaseException):
                raise each
        yield alive
    finally:
        await asyncio.gather(*(engine.__aexit__(None, None, None) for engine in alive))


def prompt(tokens: int, seed: int = 0) -> list[int]:
    """Token ids of ordinary words."""
    return random.Random(seed).choices(range(20, 500), k=tokens)


def completion(body: dict[str, Any], **more: Any) -> Call:
    body = {"model": MODEL, "max_tokens": 12, "temperature": 0, **body}
    return Call("cmpl-test", worker_pb2.API_COMPLETIONS, json.dumps(body).encode(), **more)


def chat(body: dict[str, Any], **more: Any) -> Call:
    body = {"model": MODEL, "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": "hi"}], **body}
    return Call("chatcmpl-test", worker_pb2.API_CHAT_COMPLETIONS, json.dumps(body).encode(), **more)


@dataclass(frozen=True)
class Answer:
    reply: Recorder
    outcome: Outcome

    @property
    def text(self) -> str:
        if self.reply.content_type == "application/json":
            (choice,) = self.reply.json["choices"]
            return str(choice["text"] if "text" in choice else choice["message"]["content"])
        choices = [event["choices"][0] for event in self.reply.events if event["choices"]]
        return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)


async def ask(engine: VllmEngine, call: Call) -> Answer:
    reply = Recorder()
    return Answer(reply, await engine.generate(call, reply))


@dataclass(frozen=True)
class Pair:
    prefill: VllmEngine
    decode: VllmEngine

    async def whole(self, body: dict[str, Any], make: Callable[..., Call] = completion) -> Answer:
        """The decode engine alone, on a prefix cache of its own: what it was given by others is not in there."""
        return await ask(self.decode, make({**body, "cache_salt": "alone"}))

    async def handle(self, body: dict[str, Any], make: Callable[..., Call] = completion) -> kv_pb2.KvHandle:
        handle = (await self.prefill.prefill(make(body))).kv
        assert handle is not None
        return handle

    async def ask(self, body: dict[str, Any], make: Callable[..., Call] = completion) -> Answer:
        """As a router does: prefill, decode, release."""
        handle = await self.handle(body, make)
        try:
            return await ask(self.decode, make(body, kv=handle))
        finally:
            self.prefill.release(handle.lease)


WAIT = 60.0
"""Seconds for what has to happen, on a machine that does much else."""


async def at_rest(engine: VllmEngine) -> Counters:
    """Waits until the engine holds nothing, and returns its last count, which may show otherwise.

    A lease that nobody released ends by its time meanwhile: see `leases_that_expire`.
    """
    rest = Counters(free_blocks=engine.facts.total_blocks - 1)
    end = time.monotonic() + WAIT
    while (counted := await engine.counters()) != rest and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return counted


async def everything_at_rest(pair: Pair) -> bool:
    engines = (pair.prefill, pair.decode)
    return [await at_rest(engine) for engine in engines] == [
        Counters(free_blocks=engine.facts.total_blocks - 1) for engine in engines
    ]


@dataclass
class Expected:
    """What a test leaves to time."""

    expired: int = 0
    """Leases that nobody is to release."""


@asynccontextmanager
async def leases_that_expire(pair: Pair) -> AsyncIterator[Expected]:
    """Engines at rest, of whose leases time ends those in the block that the test says, and no others."""
    assert await everything_at_rest(pair)
    before = pair.prefill.totals()["leases_expired"]
    expected = Expected()
    yield expected
    assert pair.prefill.totals()["leases_expired"] - before == expected.expired


@asynccontextmanager
async def midway(engine: VllmEngine, body: dict[str, Any]) -> AsyncIterator[tuple[asyncio.Task[Outcome], Recorder]]:
    """A call that is being answered by an engine that stands still during the block.

    One that is over before the engine stands is asked again: which step that finds is the machine's matter.
    """
    client = engine._serving.engine
    for attempt in range(20):
        reply = Recorder()
        call = completion({**body, "cache_salt": f"midway {attempt}"})
        before = engine.totals().get("generation_tokens", 0)
        task = asyncio.create_task(engine.generate(call, reply))
        while not task.done() and engine.totals().get("generation_tokens", 0) < before + 4:
            await asyncio.sleep(0.001)
        await client.pause_generation(mode="keep", clear_cache=False)
        try:
            if engine.load().running:
                yield task, reply
                return
        finally:
            with suppress(EngineDeadError):
                await client.resume_generation()
        await task
    raise AssertionError("every answer was over at once")


class Faults:
    """Switches the faults of `sabotage`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("")

    def set(self, fault: str) -> None:
        self._file.with_suffix(".next").write_text(fault)
        self._file.with_suffix(".next").rename(self._file)


def faulty_connector(patch: pytest.MonkeyPatch, folder: Path) -> Faults:
    """From here on, engines load the connector with faults."""
    from tandem_engine.vllm import arguments

    file = folder / "fault"
    patch.setenv(FAULT_FILE, str(file))
    patch.setitem(arguments.CONNECTORS, "grpc", "tests.vllm_engine.sabotage.FaultyConnector")
    assert os.environ[FAULT_FILE]
    return Faults(file)
