"""What a transfer can't carry is computed in one place, and nothing of it before."""

from collections.abc import Callable
from typing import Any

import pytest
from tandem_engine.engine import Call
from tandem_engine.errors import NotFound
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.vllm_engine.engines import Pair, ask, chat, completion, prompt

pytestmark = pytest.mark.vllm

TEXT = {"prompt": prompt(40, seed=200)}

KINDS = [
    ("echo", completion({**TEXT, "echo": True})),
    ("prompt_logprobs", completion({**TEXT, "prompt_logprobs": 1})),
    ("beam_search", completion({**TEXT, "use_beam_search": True, "n": 2, "max_tokens": 3})),
    ("n", completion({**TEXT, "n": 2, "temperature": 1, "seed": 1})),
    ("several_prompts", completion({"prompt": [prompt(40, seed=201), prompt(40, seed=202)]})),
    ("several_prompts", completion({"prompt": ["one", "two"]})),
    ("echo", chat({"echo": True})),
    ("prompt_logprobs", chat({"prompt_logprobs": 0})),
    ("beam_search", chat({"use_beam_search": True, "n": 2, "max_tokens": 3})),
    ("n", chat({"n": 2, "temperature": 1})),
    ("staging_limit", completion({"prompt": prompt(1300, seed=203)})),
]


@pytest.mark.parametrize(("reason", "call"), KINDS, ids=[f"{call.response_id[:-5]} {kind}" for kind, call in KINDS])
async def test_it_runs_whole_on_the_decode_worker(pair: Pair, reason: str, call: Call) -> None:
    before = pair.prefill.totals().get("prompt_tokens_computed", 0)
    outcome = await pair.prefill.prefill(call)
    assert (outcome.whole_reason, outcome.kv) == (reason, None)
    assert pair.prefill.totals().get("prompt_tokens_computed", 0) == before
    whole = Call(call.response_id, call.api, call.body, whole_reason=reason)
    answer = await ask(pair.decode, whole)
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.WHOLE, reason)
    assert answer.outcome.usage.completion_tokens > 0
    assert len(answer.reply.json["choices"]) == (2 if reason in ("n", "beam_search", "several_prompts") else 1)


@pytest.mark.parametrize("make", [chat, completion])
async def test_beams_are_at_most_as_long_as_the_platform_allows(pair: Pair, make: Callable[..., Call]) -> None:
    # Without max_tokens a chat may be as long as the model allows, a completion has vLLM's sixteen.
    asked = TEXT | {"max_tokens": 9000} if make is completion else {"max_tokens": None}
    answer = await ask(pair.decode, make({"use_beam_search": True, "n": 2, "ignore_eos": True, **asked}))
    assert answer.reply.json["usage"]["completion_tokens"] == 2 * 64


async def test_embedded_prompts_are_not_computed_for_others(pair: Pair) -> None:
    outcome = await pair.prefill.prefill(completion({"prompt": None, "prompt_embeds": "AAAA"}))
    assert outcome.whole_reason == "prompt_embeds"


async def test_kv_of_a_call_that_it_can_not_serve_is_left_and_said(pair: Pair) -> None:
    body: dict[str, Any] = {**TEXT, "cache_salt": "left"}
    handle = await pair.handle(body)
    answer = await ask(pair.decode, completion({**body, "echo": True}, kv=handle))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.RECOMPUTED, "echo")
    pair.prefill.release(handle.lease)


async def test_a_prefill_of_an_unknown_model_is_not_found(pair: Pair) -> None:
    with pytest.raises(NotFound):
        await pair.prefill.prefill(completion({**TEXT, "model": "other"}))
