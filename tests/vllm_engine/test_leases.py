"""Whatever comes of a call, nothing of it stays: no slot, no block, no lease, no staged byte, no fetch."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tandem_engine.errors import KvGone, Overloaded
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.engines import (
    BLOCK_BYTES,
    LEASE_TTL,
    Answer,
    Expected,
    Faults,
    Pair,
    Recorder,
    ask,
    at_rest,
    completion,
    everything_at_rest,
    leases_that_expire,
    midway,
    prompt,
)

pytestmark = pytest.mark.vllm


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def expected(pair: Pair) -> AsyncIterator[Expected]:
    """Each test begins with engines at rest, and says which leases it leaves to time."""
    async with leases_that_expire(pair) as expected:
        yield expected


async def test_a_lease_is_counted_until_it_is_released(pair: Pair) -> None:
    handle = await pair.handle({"prompt": prompt(70, seed=300)})
    counted = await pair.prefill.counters()
    assert (counted.leases, counted.staged_bytes) == (1, 3 * BLOCK_BYTES)
    assert (pair.prefill.load().leases, pair.prefill.load().staged_bytes) == (1, 3 * BLOCK_BYTES)
    assert counted.free_blocks == pair.prefill.facts.total_blocks - 1  # the engine's blocks are free at once
    pair.prefill.release(handle.lease)
    pair.prefill.release(handle.lease)
    assert await everything_at_rest(pair)


async def test_an_expired_lease_is_dropped_and_its_kv_recomputed(pair: Pair, expected: Expected) -> None:
    expected.expired = 1
    body = {"prompt": prompt(70, seed=301)}
    handle = await pair.handle(body)
    assert 0 < handle.ttl_ms <= LEASE_TTL * 1000
    assert await everything_at_rest(pair)
    answer = await ask(pair.decode, completion(body, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "gone")
    assert answer.text == (await pair.whole(body)).text


async def test_a_call_that_waits_longer_than_a_lease_lasts_finds_its_kv(pair: Pair, expected: Expected) -> None:
    expected.expired = 1
    body = {"prompt": prompt(70, seed=310)}
    handle = await pair.handle(body)
    decode = pair.decode._serving.engine
    await decode.pause_generation(mode="keep", clear_cache=False)
    try:
        task = asyncio.create_task(ask(pair.decode, completion(body, kv=handle)))
        end = pair.decode._clock() + 2.5 * LEASE_TTL
        while pair.decode._clock() < end:
            assert not task.done()
            counted = await pair.prefill.counters()
            assert (counted.leases, counted.staged_bytes) == (1, 3 * BLOCK_BYTES)
            assert pair.prefill.load().leases == 1
            await asyncio.sleep(0.2)
    finally:
        await decode.resume_generation()
    assert (await task).reply.kv.outcome == KvReport.TRANSFERRED
    # Nobody renews it any more: it ends by itself.
    assert await everything_at_rest(pair)


async def test_a_lease_that_was_handed_on_serves_its_next_holder_only(pair: Pair) -> None:
    body = {"prompt": prompt(70, seed=302)}
    first = await pair.handle(body)
    second = await pair.prefill.hand_on(first.lease)
    assert len(second.lease) == 16
    assert second.lease != first.lease
    assert (await pair.prefill.counters()).leases == 1
    assert (await ask(pair.decode, completion(body, kv=first))).reply.kv.reason == "gone"
    other = {**body, "cache_salt": "again"}
    again = await pair.handle(other)
    handed = await pair.prefill.hand_on(again.lease)
    assert (await ask(pair.decode, completion(other, kv=handed))).reply.kv.outcome == KvReport.TRANSFERRED
    for lease in (second.lease, handed.lease):
        pair.prefill.release(lease)
    with pytest.raises(KvGone):
        await pair.prefill.hand_on(second.lease)
    assert await everything_at_rest(pair)


async def test_prefill_is_refused_before_it_starts_where_no_bytes_are_left(pair: Pair) -> None:
    handle = await pair.handle({"prompt": prompt(1200, seed=303)})  # 38 of 40 blocks
    before = pair.prefill.totals()["prompt_tokens_computed"]
    with pytest.raises(Overloaded):
        await pair.prefill.prefill(completion({"prompt": prompt(90, seed=304)}))
    assert pair.prefill.totals()["prompt_tokens_computed"] == before
    pair.prefill.release(handle.lease)
    assert await everything_at_rest(pair)


async def test_kv_that_could_not_be_staged_fails_its_prefill_and_nothing_else(pair: Pair, faults: Faults) -> None:
    faults.set("full")
    with pytest.raises(Overloaded):
        await pair.prefill.prefill(completion({"prompt": prompt(70, seed=305)}))
    faults.set("")
    assert (await pair.ask({"prompt": prompt(70, seed=305)})).reply.kv.outcome == KvReport.TRANSFERRED
    assert await everything_at_rest(pair)


async def test_a_cancelled_answer_stops_within_two_tokens(pair: Pair) -> None:
    body = {"prompt": prompt(40, seed=306), "max_tokens": 64, "ignore_eos": True, "stream": True}
    async with midway(pair.decode, body) as (task, _):
        before = pair.decode.totals()["generation_tokens"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await everything_at_rest(pair)
    assert pair.decode.totals()["generation_tokens"] - before <= 2


async def test_a_cancelled_call_that_does_not_stream_is_cancelled_too(pair: Pair) -> None:
    body = {"prompt": prompt(900, seed=307), "max_tokens": 64, "ignore_eos": True}
    async with midway(pair.decode, body) as (task, _):
        before = pair.decode.totals()["generation_tokens"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await everything_at_rest(pair)
    assert pair.decode.totals()["generation_tokens"] - before <= 2


@pytest.mark.parametrize("wait", [0.0, 0.01, 0.05, 0.2])
async def test_a_cancelled_prefill_leaves_nothing(pair: Pair, wait: float) -> None:
    task = asyncio.create_task(pair.prefill.prefill(completion({"prompt": prompt(1000, seed=308 + round(wait * 100))})))
    await asyncio.sleep(wait)  # at several points of its life; whichever it is, nothing may stay
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if not isinstance(outcome, BaseException) and outcome.kv is not None:
        pair.prefill.release(outcome.kv.lease)
    assert await everything_at_rest(pair)


async def test_a_call_cancelled_while_its_kv_is_under_way_stops_the_fetch(pair: Pair, faults: Faults) -> None:
    body = {"prompt": prompt(150, seed=309)}
    handle = await pair.handle(body)
    faults.set("stall")
    task = asyncio.create_task(ask(pair.decode, completion(body, kv=handle)))
    while not (await pair.decode.counters()).fetches:
        assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pair.prefill.release(handle.lease)
    counted = await at_rest(pair.decode)  # though the holder still keeps the bytes back
    assert (counted.fetches, counted.free_blocks) == (0, pair.decode.facts.total_blocks - 1)
    faults.set("")
    assert await everything_at_rest(pair)


async def as_a_router(pair: Pair, body: dict[str, Any]) -> Answer:
    """Tries again where no bytes are left, and releases at the first byte."""
    while True:
        try:
            handle = await pair.handle(body)
        except Overloaded:
            await asyncio.sleep(0.05)
        else:
            break
    reply = Recorder()
    reply.on_data = lambda: pair.prefill.release(handle.lease)
    return Answer(reply, await pair.decode.generate(completion(body, kv=handle), reply))


async def test_calls_that_are_preempted_answer_all_the_same(pair: Pair) -> None:
    body = {"max_tokens": 64, "ignore_eos": True, "stream": True}
    bodies = [{**body, "prompt": prompt(380, seed=340 + n)} for n in range(12)]
    alone = [await pair.whole(body) for body in bodies]
    before = pair.decode.totals()["preemptions"]
    for n in range(20):  # how many run at once is a matter of time
        salted = [{**body, "cache_salt": f"preempted {n}"} for body in bodies]
        together = await asyncio.gather(*(as_a_router(pair, body) for body in salted))
        assert [answer.text for answer in together] == [answer.text for answer in alone]
        assert all(answer.reply.kv.outcome == KvReport.TRANSFERRED for answer in together)
        if pair.decode.totals()["preemptions"] > before:
            break
    assert pair.decode.totals()["preemptions"] > before
    assert await everything_at_rest(pair)


async def test_many_calls_side_by_side_keep_their_answers_apart(pair: Pair) -> None:
    bodies = [{"prompt": prompt(33 + 7 * n, seed=320 + n)} for n in range(10)]
    together = await asyncio.gather(*(pair.ask(body) for body in bodies))
    alone = [await pair.whole(body) for body in bodies]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert all(answer.reply.kv.outcome == KvReport.TRANSFERRED for answer in together)
    assert await everything_at_rest(pair)
