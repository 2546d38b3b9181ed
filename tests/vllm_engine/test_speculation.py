"""A decode engine that speculates takes KV as any other, and counts how often it was right.

It is also started with a TMPDIR too long for a socket's path.
"""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import ARGS, Pair, config, prompt, running

pytestmark = pytest.mark.vllm

NGRAM = '--speculative-config={"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}'


@module
async def speculating(pair: Pair, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """The shared prefill engine beside a decode engine of its own."""
    folder = tmp_path_factory.mktemp("x" * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.delenv("VLLM_RPC_BASE_PATH", raising=False)  # of the shared engines
        patch.setenv("TMPDIR", str(folder))
        async with running(tiny_model, config("decode", engine={"type": "vllm", "args": (*ARGS, NGRAM)})) as (decode,):
            yield Pair(pair.prefill, decode)


@pytest.mark.parametrize("tokens", [33, 64, 257])
async def test_an_answer_is_the_one_without_speculation(pair: Pair, speculating: Pair, tokens: int) -> None:
    body = {"prompt": prompt(8, seed=900) * (tokens // 8) + [30] * (tokens % 8), "max_tokens": 40, "ignore_eos": True}
    answer = await speculating.ask(body)
    assert answer.reply.kv.outcome == KvReport.TRANSFERRED
    assert answer.outcome.usage.computed_tokens == 1
    assert answer.outcome.usage.completion_tokens == 40
    assert answer.text == (await pair.whole(body)).text == (await speculating.whole(body)).text


async def test_it_counts_what_was_speculated_and_what_of_it_was_right(speculating: Pair) -> None:
    before = dict(speculating.decode.totals())
    # What comes next has been there before, and nothing else is allowed.
    forced = {"structured_outputs": {"choice": ["the lazy dog " * 12]}}
    await speculating.whole({"prompt": prompt(40, seed=901), "max_tokens": 60, **forced})
    totals = speculating.decode.totals()
    drafted = totals["draft_tokens"] - before.get("draft_tokens", 0)
    accepted = totals["draft_tokens_accepted"] - before.get("draft_tokens_accepted", 0)
    assert 0 < accepted <= drafted
