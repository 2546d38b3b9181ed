"""Without a prefill role the engine serves alone; when it dies, every call is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tandem_engine.errors import EngineDead, KvMismatch
from tandem_engine.vllm import VllmEngine
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import BLOCK, WAIT, ask, at_rest, chat, completion, config, midway, prompt, running

pytestmark = pytest.mark.vllm


@module
async def engine(tiny_model: Path) -> AsyncIterator[VllmEngine]:
    """Of its own: the last test kills it."""
    async with running(tiny_model, config("decode", disaggregated=False)) as (alone,):
        yield alone


async def test_it_knows_its_layout_without_a_connector(engine: VllmEngine) -> None:
    layout = engine.facts.layout
    assert (layout.dtype, layout.layers, layout.kv_heads, layout.head_dim) == ("float32", 4, 2, 64)
    assert (layout.block_size, layout.tensor_parallel) == (BLOCK, 1)
    assert engine.facts.max_staged_bytes == 0


async def test_it_answers_and_counts_without_a_connector(engine: VllmEngine) -> None:
    answer = await ask(engine, completion({"prompt": prompt(70, seed=600)}))
    assert answer.reply.kv.outcome == KvReport.WHOLE
    assert answer.outcome.usage.computed_tokens == 70
    again = await ask(engine, completion({"prompt": prompt(70, seed=600)}))
    assert (again.outcome.usage.cached_tokens, again.outcome.usage.computed_tokens) == (64, 6)
    assert engine.totals()["prompt_tokens_computed"] == 76
    assert (await at_rest(engine)).free_blocks == engine.facts.total_blocks - 1
    await engine.check()


async def test_it_takes_no_handle(engine: VllmEngine) -> None:
    with pytest.raises(KvMismatch):
        await ask(engine, chat({}, kv=kv_pb2.KvHandle(model="tiny")))


async def test_a_dead_engine_ends_every_call_with_an_error(engine: VllmEngine) -> None:
    body = {"stream": True, "ignore_eos": True, "max_tokens": 64, "prompt": prompt(40, seed=601)}
    async with midway(engine, body) as (task, reply):
        (process,) = engine._serving.engine.engine_core.resources.engine_manager.processes
        process.kill()
        with pytest.raises(EngineDead):
            await asyncio.wait_for(task, WAIT)
    assert b"[DONE]" not in b"".join(reply.chunks)
    assert b'"error"' not in b"".join(reply.chunks)
    for stream in (True, False):
        with pytest.raises(EngineDead):
            await ask(engine, chat({"stream": stream}))
    with pytest.raises(EngineDead):
        await engine.check()
    with pytest.raises(EngineDead):
        await engine.counters()
