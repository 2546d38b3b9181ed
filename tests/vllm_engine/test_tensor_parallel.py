"""Ranks fetch from ranks, also where the two sides have a different number of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import (
    BLOCK,
    BLOCK_BYTES,
    Faults,
    Pair,
    ask,
    at_rest,
    completion,
    config,
    prompt,
    running,
)

pytestmark = pytest.mark.vllm


@module
async def double(tiny_model: Path, shared_faults: Faults) -> AsyncIterator[Pair]:
    """A pair of engines of two ranks each."""
    async with running(
        tiny_model, config("prefill", tensor_parallel=2), config("decode", tensor_parallel=2)
    ) as engines:
        yield Pair(*engines)


async def check(holder: Pair, tokens: int) -> None:
    body = {"prompt": prompt(tokens, seed=400 + tokens), "return_token_ids": True}
    alone, together = await holder.whole(body), await holder.ask({**body, "cache_salt": f"of {holder.prefill}"})
    blocks = -(-tokens // BLOCK)
    assert together.reply.json["choices"][0]["token_ids"] == alone.reply.json["choices"][0]["token_ids"]
    assert together.reply.kv.outcome == KvReport.TRANSFERRED
    assert (together.reply.kv.blocks, together.reply.kv.bytes) == (blocks, blocks * BLOCK_BYTES)
    assert together.outcome.usage.computed_tokens == 1
    for engine in (holder.prefill, holder.decode):
        counted = await at_rest(engine)
        assert (counted.leases, counted.staged_bytes, counted.fetches, counted.running) == (0, 0, 0, 0)


@pytest.mark.parametrize("tokens", [1, 33, 257])
async def test_two_ranks_fetch_from_two(double: Pair, tokens: int) -> None:
    await check(double, tokens)


@pytest.mark.parametrize("tokens", [1, 33, 257])
async def test_two_ranks_fetch_from_one(pair: Pair, double: Pair, tokens: int) -> None:
    await check(Pair(pair.prefill, double.decode), tokens)


@pytest.mark.parametrize("tokens", [1, 33, 257])
async def test_one_rank_fetches_from_two(pair: Pair, double: Pair, tokens: int) -> None:
    await check(Pair(double.prefill, pair.decode), tokens)


async def test_kv_that_one_of_two_ranks_did_not_get_is_recomputed(double: Pair) -> None:
    body = {"prompt": prompt(100, seed=450)}
    handle = await double.handle(body)
    handle.addresses[1] = "127.0.0.1:9"
    answer = await ask(double.decode, completion(body, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "unreachable")
    assert answer.outcome.usage.computed_tokens == 100
    assert answer.text == (await double.whole(body)).text
    double.prefill.release(handle.lease)
