"""A disaggregated pair answers as one engine does, token for token, out of KV that it really got."""

import pytest
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.engines import BLOCK, BLOCK_BYTES, Faults, Pair, ask, at_rest, chat, completion, prompt

pytestmark = pytest.mark.vllm

LENGTHS = (1, 2, 31, 32, 33, 100, 129, 257, 500, 1000)


@pytest.mark.parametrize("tokens", LENGTHS)
async def test_a_pair_answers_token_for_token_like_one_engine(pair: Pair, tokens: int) -> None:
    body = {"prompt": prompt(tokens, seed=tokens), "return_token_ids": True}
    alone, together = await pair.whole(body), await pair.ask({**body, "cache_salt": f"pair of {tokens}"})
    blocks = -(-tokens // BLOCK)
    assert together.reply.json["choices"][0]["token_ids"] == alone.reply.json["choices"][0]["token_ids"]
    assert together.reply.kv.outcome == KvReport.TRANSFERRED
    assert (together.reply.kv.blocks, together.reply.kv.bytes) == (blocks, blocks * BLOCK_BYTES)
    assert together.outcome.usage.computed_tokens == 1
    assert alone.outcome.usage.computed_tokens == tokens


async def test_a_chat_streams_the_same_text_out_of_a_pair(pair: Pair) -> None:
    body = {"messages": [{"role": "user", "content": "what is the capital of France? " * 20}], "stream": True}
    alone, together = await pair.whole(body, chat), await pair.ask(body, chat)
    assert together.text == alone.text
    assert together.reply.kv.outcome == KvReport.TRANSFERRED


async def test_the_report_names_peer_connector_and_time(pair: Pair) -> None:
    report = (await pair.ask({"prompt": prompt(70, seed=70)})).reply.kv
    assert (report.peer, report.connector, report.reason) == ("prefill-0", "grpc", "")
    assert report.micros > 0


async def test_prompts_that_differ_in_their_first_token_get_different_answers(pair: Pair) -> None:
    tail = prompt(99, seed=5)
    one, other = [await pair.ask({"prompt": [first, *tail]}) for first in (40, 41)]
    assert one.text != other.text


async def test_blocks_that_the_decode_engine_has_are_not_fetched_again(pair: Pair) -> None:
    start = prompt(320, seed=9)
    await pair.ask({"prompt": start})
    longer = {"prompt": start + prompt(50, seed=10)}
    answer = await pair.ask(longer)
    assert answer.reply.kv.blocks == 2  # of 12: ten are in the prefix cache
    assert answer.outcome.usage.cached_tokens == 320
    assert answer.outcome.usage.computed_tokens == 1
    assert answer.text == (await pair.whole(longer)).text


async def test_kv_that_was_damaged_before_it_was_staged_changes_the_answer(pair: Pair, faults: Faults) -> None:
    body = {"prompt": prompt(150, seed=11)}
    alone = await pair.whole(body)
    faults.set("staging")
    damaged = await pair.ask({**body, "cache_salt": "damaged"})
    assert damaged.reply.kv.outcome == KvReport.TRANSFERRED
    assert damaged.text != alone.text


async def test_kv_damaged_on_the_wire_is_refused_recomputed_and_said(pair: Pair, faults: Faults) -> None:
    body = {"prompt": prompt(150, seed=12)}
    alone = await pair.whole(body)
    faults.set("wire")
    answer = await pair.ask(body)
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "checksum")
    assert answer.text == alone.text
    assert answer.outcome.usage.computed_tokens == 150


async def test_released_kv_is_recomputed_and_said(pair: Pair) -> None:
    body = {"prompt": prompt(150, seed=13)}
    handle = await pair.handle(body)
    pair.prefill.release(handle.lease)
    assert (await at_rest(pair.prefill)).leases == 0
    answer = await ask(pair.decode, completion(body, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "gone")
    assert answer.text == (await pair.whole(body)).text
    assert answer.outcome.usage.computed_tokens == 150
