"""A prefill and a decode engine answer as one aggregated engine does, by KV that really moved."""

import asyncio
import gc
import socket

import pytest
from tandem_engine.engine import Outcome
from tandem_engine.errors import KvGone, KvMismatch, Overloaded
from tandem_engine.virtual import VirtualEngine
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2

from tests.holdings import grown_by_nothing, holdings
from tests.virtual_engine.conftest import TIMEOUT, RecordedReply, StartEngine, VirtualClock, call, chat, settle, words

Report = worker_pb2.KvReport
LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 100, 129, 257, 500, 1000]


async def answer(engine: VirtualEngine, body: dict, api: str = "chat", **more: object) -> tuple[RecordedReply, Outcome]:
    reply = RecordedReply()
    outcome = await asyncio.wait_for(engine.generate(call(body, api=api, **more), reply), TIMEOUT)
    return reply, outcome


def completion(prompt: list[int]) -> dict:
    return {"model": "m", "prompt": prompt, "temperature": 0}


async def handle_of(engine: VirtualEngine, body: dict, api: str = "chat") -> kv_pb2.KvHandle:
    outcome = await engine.prefill(call(body, api=api))
    assert outcome.kv is not None
    return outcome.kv


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_pair_answers_as_one_engine_does_and_counts_what_it_moved(start: StartEngine, length: int) -> None:
    prefill, decode, alone = await start("prefill"), await start(), await start()
    body = completion(words(length))
    handle = await handle_of(prefill, body, "completion")
    pair, outcome = await answer(decode, body, "completion", kv=handle)
    whole, _ = await answer(alone, body, "completion")
    assert pair.text == whole.text
    blocks = -(-length // 16)
    assert pair.kv is not None
    assert (pair.kv.outcome, pair.kv.blocks, pair.kv.bytes) == (Report.TRANSFERRED, blocks, blocks * 16 * 64)
    assert (pair.kv.connector, pair.kv.peer) == ("grpc", "prefill-0")
    assert (outcome.usage.prompt_tokens, outcome.usage.computed_tokens) == (length, 1)
    assert decode.totals()["kv_bytes_received"] == prefill.totals()["kv_bytes_sent"] == handle.bytes == pair.kv.bytes
    assert decode.totals()["prompt_tokens_computed"] == 1


async def test_prompts_that_differ_only_in_their_first_token_have_different_answers(start: StartEngine) -> None:
    prefill, decode = await start("prefill"), await start()
    texts = set()
    for first in range(4):
        body = completion(words(200, first))
        texts.add((await answer(decode, body, "completion", kv=await handle_of(prefill, body, "completion")))[0].text)
    assert len(texts) == 4


async def test_kv_corrupted_before_it_is_staged_changes_the_answer(start: StartEngine) -> None:
    prefill = await start("prefill", faults={"corrupt_staged": 100})
    decode, alone = await start(), await start()
    body = completion(words(100))
    pair, _ = await answer(decode, body, "completion", kv=await handle_of(prefill, body, "completion"))
    whole, _ = await answer(alone, body, "completion")
    assert pair.kv is not None
    assert pair.kv.outcome == Report.TRANSFERRED
    assert pair.text != whole.text


@pytest.mark.parametrize(
    ("role", "faults", "reason"),
    [
        ("prefill", {"corrupt_wire": 100}, "checksum"),
        ("prefill", {"lose": 100}, "gone"),
        ("decode", {"refuse": 100}, "refused"),
    ],
)
async def test_kv_that_cannot_be_used_is_computed_again_and_said(
    start: StartEngine, role: str, faults: dict, reason: str
) -> None:
    prefill = await start("prefill", faults=faults if role == "prefill" else {})
    decode = await start(faults=faults if role == "decode" else {})
    alone = await start()
    body = completion(words(100))
    pair, outcome = await answer(decode, body, "completion", kv=await handle_of(prefill, body, "completion"))
    whole, _ = await answer(alone, body, "completion")
    assert pair.kv is not None
    assert (pair.kv.outcome, pair.kv.reason) == (Report.RECOMPUTED, reason)
    assert outcome.usage.computed_tokens == 100
    assert pair.text == whole.text
    assert decode.totals()["kv_fetch_failures"] == 1


async def test_kv_whose_holder_has_gone_is_computed_again(start: StartEngine) -> None:
    decode, alone = await start(), await start()
    body = completion(words(50))
    handle = await handle_of(await start("prefill"), body, "completion")
    handle.addresses[0] = "127.0.0.1:1"
    pair, _ = await answer(decode, body, "completion", kv=handle)
    assert pair.kv is not None
    assert (pair.kv.outcome, pair.kv.reason) == (Report.RECOMPUTED, "unreachable")
    assert pair.text == (await answer(alone, body, "completion"))[0].text


async def test_kv_expires_by_the_holders_clock(start: StartEngine) -> None:
    clock = VirtualClock()
    prefill, decode = await start("prefill", clock=clock, kv={"lease_ttl": 5.0}), await start()
    body = completion(words(50))
    handle = await handle_of(prefill, body, "completion")
    assert handle.ttl_ms == 5000
    assert (prefill.load().leases, prefill.load().staged_bytes) == (1, handle.bytes)
    clock.now += 5.0
    assert (prefill.load().leases, prefill.load().staged_bytes) == (0, 0)
    pair, _ = await answer(decode, body, "completion", kv=handle)
    assert pair.kv is not None
    assert pair.kv.reason == "gone"


@pytest.mark.parametrize(
    ("identity", "spec", "named"),
    [
        ({"model": "m", "version": "v2"}, {}, "version"),
        ({"revision": "r2"}, {}, "revision"),
        ({}, {"block_size": 8}, "layout"),
        ({}, {"bytes_per_token": 128}, "layout"),
    ],
)
async def test_a_handle_of_another_engine_is_refused(
    start: StartEngine, identity: dict, spec: dict, named: str
) -> None:
    prefill, decode = await start("prefill"), await start(identity=identity, **spec)
    handle = await handle_of(prefill, chat())
    with pytest.raises(KvMismatch, match=named):
        await answer(decode, chat(), kv=handle)
    assert decode.load().running == 0


@pytest.mark.parametrize("other", [chat("Tell me of lakes."), chat(cache_salt="salt")])
async def test_a_handle_of_another_prompt_or_salt_is_refused(start: StartEngine, other: dict) -> None:
    prefill, decode = await start("prefill"), await start()
    handle = await handle_of(prefill, other)
    with pytest.raises(KvMismatch, match="prompt"):
        await answer(decode, chat(), kv=handle)


async def test_a_lease_that_was_handed_on_serves_by_its_next_bits_alone(start: StartEngine) -> None:
    prefill, decode = await start("prefill"), await start()
    body = completion(words(40))
    old = await handle_of(prefill, body, "completion")
    drawn = await prefill.hand_on(old.lease)
    assert drawn.lease != old.lease
    assert (drawn.tokens, drawn.blocks, drawn.bytes, drawn.addresses) == (
        old.tokens,
        old.blocks,
        old.bytes,
        old.addresses,
    )
    with pytest.raises(KvGone):
        await prefill.hand_on(old.lease)
    pair, _ = await answer(decode, body, "completion", kv=drawn)
    assert pair.kv is not None
    assert pair.kv.outcome == Report.TRANSFERRED
    prefill.release(drawn.lease)
    assert (prefill.load().leases, prefill.load().staged_bytes) == (0, 0)
    prefill.release(drawn.lease)


async def test_blocks_that_the_decode_side_has_are_not_fetched_again(start: StartEngine) -> None:
    prefill, decode = await start("prefill"), await start()
    for tail, moved in ((0, 7), (1, 1)):
        body = completion([*words(100), 5000 + tail])
        pair, outcome = await answer(decode, body, "completion", kv=await handle_of(prefill, body, "completion"))
        assert pair.kv is not None
        assert pair.kv.blocks == moved
        assert pair.text == (await answer(await start(), body, "completion"))[0].text
        assert (outcome.usage.cached_tokens, outcome.usage.computed_tokens) == (tail * 96, 1)


async def test_prefill_is_refused_before_it_starts_where_too_much_is_staged(start: StartEngine) -> None:
    prefill = await start("prefill", kv={"max_staged_bytes": 5 * 16 * 64})
    held = await handle_of(prefill, completion(words(48)), "completion")
    computed = prefill.totals()["prompt_tokens_computed"]
    with pytest.raises(Overloaded):
        await prefill.prefill(call(completion(words(48, 1)), api="completion"))
    assert prefill.totals()["prompt_tokens_computed"] == computed
    prefill.release(held.lease)
    await handle_of(prefill, completion(words(48, 1)), "completion")


@pytest.mark.parametrize(
    ("body", "api", "reason"),
    [
        (chat(n=2), "chat", "n"),
        ({"model": "m", "prompt": "a", "echo": True}, "completion", "echo"),
        ({"model": "m", "prompt": ["a", "b"]}, "completion", "prompts"),
        ({"model": "m", "prompt": words(2000)}, "completion", "staging_limit"),
    ],
)
async def test_what_a_transfer_cannot_carry_is_not_prefilled_and_runs_whole(
    start: StartEngine, body: dict, api: str, reason: str
) -> None:
    prefill, decode = await start("prefill", kv={"max_staged_bytes": 64_000}), await start()
    outcome = await prefill.prefill(call(body, api=api))
    assert (outcome.whole_reason, outcome.kv) == (reason, None)
    assert prefill.totals()["prompt_tokens_computed"] == 0
    reply, _ = await answer(decode, body, api, whole=reason)
    assert reply.kv is not None
    assert (reply.kv.outcome, reply.kv.reason) == (Report.WHOLE, reason)


async def test_a_prefill_that_is_cancelled_leaves_nothing(start: StartEngine) -> None:
    prefill = await start("prefill", slots=1)
    free = prefill.load().free_blocks
    running = asyncio.create_task(prefill.prefill(call(completion(words(300)), api="completion")))
    await asyncio.sleep(0)
    assert prefill.load().staged_bytes > 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    load = prefill.load()
    assert (load.running, load.waiting, load.staged_bytes, load.leases, load.free_blocks) == (0, 0, 0, 0, free)


async def test_a_decode_that_is_cancelled_while_it_fetches_leaves_nothing(
    start: StartEngine, caplog: pytest.LogCaptureFixture
) -> None:
    prefill, decode = await start("prefill"), await start()
    body = completion(words(300))
    handle = await handle_of(prefill, body, "completion")
    free = decode.load().free_blocks
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections and says nothing: the fetch is under way until it is cancelled
        handle.addresses[0] = f"127.0.0.1:{silent.getsockname()[1]}"
        running = asyncio.create_task(decode.generate(call(body, api="completion", kv=handle), RecordedReply()))
        await settle()
        assert (decode.load().fetches, decode.load().running) == (1, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, TIMEOUT)
    load = decode.load()
    assert (load.running, load.waiting, load.fetches, load.free_blocks) == (0, 0, 0, free)
    gc.collect()
    assert not caplog.records, "asyncio complains of an exception that nobody looked at"


async def test_an_answer_that_does_not_stream_begins_when_its_kv_and_first_token_are_there(start: StartEngine) -> None:
    prefill, decode = await start("prefill"), await start()
    body = {**completion(words(50)), "max_tokens": 400, "ignore_eos": True}
    reply = RecordedReply()
    running = asyncio.create_task(
        decode.generate(call(body, api="completion", kv=await handle_of(prefill, body, "completion")), reply)
    )
    async with asyncio.timeout(TIMEOUT):
        while not reply.status:
            await asyncio.sleep(0)
        assert not reply.chunks
        assert reply.kv is not None
        assert (reply.content_type, reply.kv.outcome) == ("application/json", Report.TRANSFERRED)
        await running
    assert reply.json["usage"]["completion_tokens"] == 400


async def test_a_pair_holds_no_more_for_prompts_that_it_has_not_seen_but_blocks(start: StartEngine) -> None:
    prefill, decode = await start("prefill"), await start()

    async def prompts(numbers: range) -> None:
        for number in numbers:
            body = completion(words(40, number))
            handle = await handle_of(prefill, body, "completion")
            await answer(decode, body, "completion", kv=handle)
            prefill.release(handle.lease)

    await prompts(range(5))
    before = holdings("tandem_engine")
    await prompts(range(5, 25))
    # A prompt's blocks stay known by their content until others need them: there are never more than the cache has.
    await grown_by_nothing("tandem_engine", before, {"BlockCache._by_key"})
