"""NIXL moves KV under the same handles, leases and accounts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tandem_engine.errors import KvGone, KvMismatch
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import (
    BLOCK,
    BLOCK_BYTES,
    Expected,
    Pair,
    ask,
    completion,
    config,
    everything_at_rest,
    leases_that_expire,
    prompt,
    running,
)
from tests.vllm_engine.test_parity import LENGTHS

pytest.importorskip("nixl", reason="the extra nixl-cpu")

pytestmark = pytest.mark.vllm


@module
async def nixl(tiny_model: Path) -> AsyncIterator[Pair]:
    configs = [config(role, connector="nixl") for role in ("prefill", "decode")]
    async with running(tiny_model, *configs) as engines:
        yield Pair(*engines)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def expected(nixl: Pair) -> AsyncIterator[Expected]:
    """Each test begins with engines at rest, and says which leases it leaves to time."""
    async with leases_that_expire(nixl) as expected:
        yield expected


@pytest.mark.parametrize("tokens", LENGTHS)
async def test_a_pair_answers_token_for_token_like_one_engine(nixl: Pair, tokens: int) -> None:
    body = {"prompt": prompt(tokens, seed=tokens), "return_token_ids": True}
    alone, together = await nixl.whole(body), await nixl.ask({**body, "cache_salt": f"pair of {tokens}"})
    blocks = -(-tokens // BLOCK)
    assert together.reply.json["choices"][0]["token_ids"] == alone.reply.json["choices"][0]["token_ids"]
    assert (together.reply.kv.outcome, together.reply.kv.connector) == (KvReport.TRANSFERRED, "nixl")
    assert (together.reply.kv.blocks, together.reply.kv.bytes) == (blocks, blocks * BLOCK_BYTES)
    assert together.outcome.usage.computed_tokens == 1
    assert await everything_at_rest(nixl)


async def test_nixl_itself_counts_the_bytes_that_were_read(nixl: Pair) -> None:
    before = nixl.decode.totals().get("nixl_bytes_transferred", 0)
    answer = await nixl.ask({"prompt": prompt(100, seed=500)})
    assert nixl.decode.totals()["nixl_bytes_transferred"] - before == answer.reply.kv.bytes == 4 * BLOCK_BYTES


async def test_prompts_that_differ_in_their_first_token_get_different_answers(nixl: Pair) -> None:
    tail = prompt(99, seed=5)
    one, other = [await nixl.ask({"prompt": [first, *tail]}) for first in (40, 41)]
    assert one.text != other.text


async def test_released_kv_is_recomputed_and_said(nixl: Pair) -> None:
    body = {"prompt": prompt(150, seed=501)}
    handle = await nixl.handle(body)
    nixl.prefill.release(handle.lease)
    assert await everything_at_rest(nixl)
    answer = await ask(nixl.decode, completion(body, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "gone")
    assert answer.outcome.usage.computed_tokens == 150
    assert answer.text == (await nixl.whole(body)).text


async def test_expired_kv_gives_its_blocks_back_and_is_recomputed(nixl: Pair, expected: Expected) -> None:
    expected.expired = 1
    body = {"prompt": prompt(70, seed=502)}
    handle = await nixl.handle(body)
    held = await nixl.prefill.counters()
    assert (held.leases, held.staged_bytes) == (1, 3 * BLOCK_BYTES)
    assert held.free_blocks == nixl.prefill.facts.total_blocks - 1 - 3  # NIXL's blocks stay where they are
    assert await everything_at_rest(nixl)
    answer = await ask(nixl.decode, completion(body, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "gone")


async def test_a_lease_that_was_handed_on_serves_its_next_holder_only(nixl: Pair) -> None:
    body = {"prompt": prompt(70, seed=503)}
    first = await nixl.handle(body)
    second = await nixl.prefill.hand_on(first.lease)
    assert (await ask(nixl.decode, completion(body, kv=first))).reply.kv.reason == "gone"
    other = {**body, "cache_salt": "again"}
    handed = await nixl.prefill.hand_on((await nixl.handle(other)).lease)
    assert (await ask(nixl.decode, completion(other, kv=handed))).reply.kv.outcome == KvReport.TRANSFERRED
    nixl.prefill.release(second.lease)
    nixl.prefill.release(handed.lease)
    assert await everything_at_rest(nixl)
    with pytest.raises(KvGone):
        await nixl.prefill.hand_on(second.lease)


async def test_a_handle_of_another_prompt_is_an_error_never_an_answer(nixl: Pair) -> None:
    handle = await nixl.handle({"prompt": prompt(80, seed=504)})
    with pytest.raises(KvMismatch, match="prompt"):
        await ask(nixl.decode, completion({"prompt": prompt(80, seed=505)}, kv=handle))
    nixl.prefill.release(handle.lease)
    assert await everything_at_rest(nixl)


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.05])
async def test_a_cancelled_call_leaves_nothing_on_either_side(nixl: Pair, wait: float) -> None:
    body = {"prompt": prompt(1000, seed=510 + round(wait * 100)), "max_tokens": 64, "ignore_eos": True}
    task = asyncio.create_task(nixl.prefill.prefill(completion(body)))
    await asyncio.sleep(wait)
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(outcome, BaseException) and outcome.kv is not None:
        nixl.prefill.release(outcome.kv.lease)
    assert await everything_at_rest(nixl)
    handle = await nixl.handle(body)
    task = asyncio.create_task(ask(nixl.decode, completion(body, kv=handle)))  # type: ignore[arg-type]
    await asyncio.sleep(wait)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    nixl.prefill.release(handle.lease)
    assert await everything_at_rest(nixl)
