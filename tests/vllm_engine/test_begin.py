"""An answer that does not stream begins at its first token, and is the one that vLLM itself would give."""

import asyncio
from typing import Any

import pytest
from tandem_engine.vllm.tap import CallTap
from tandem_proto.tandem.v1.worker_pb2 import KvReport
from vllm.sampling_params import RequestOutputKind, SamplingParams

from tests.vllm_engine.engines import SOON, Pair, Recorder, ask, completion, prompt

pytestmark = pytest.mark.vllm


async def test_its_lease_is_not_needed_any_more_when_it_begins(pair: Pair) -> None:
    body = {"prompt": prompt(70, seed=800), "max_tokens": 60, "ignore_eos": True}
    handle = await pair.handle(body)
    reply, begun = Recorder(), asyncio.Event()
    reply.on_started = begun.set
    task = asyncio.create_task(pair.decode.generate(completion(body, kv=handle), reply))
    await asyncio.wait_for(begun.wait(), SOON)
    assert not task.done()
    assert (reply.chunks, reply.content_type, reply.kv.outcome) == ([], "application/json", KvReport.TRANSFERRED)
    pair.prefill.release(handle.lease)
    await task
    whole = await ask(pair.decode, completion({**body, "cache_salt": "computed here"}))
    assert reply.json["choices"] == whole.reply.json["choices"]


@pytest.mark.parametrize(
    "asked", [{}, {"logprobs": 2}, {"max_tokens": 1}, {"prompt_logprobs": 1, "logprobs": 0}, {"stop": ["e"]}]
)
async def test_it_is_what_vllm_says_when_it_is_asked_for_the_end_alone(pair: Pair, asked: dict[str, Any]) -> None:
    engine = pair.decode._serving.engine

    def sampling() -> SamplingParams:
        return SamplingParams(
            **{"max_tokens": 24, "temperature": 0.0, "output_kind": RequestOutputKind.FINAL_ONLY, **asked}
        )

    inputs = {"prompt_token_ids": prompt(40, seed=801)}
    (theirs,) = [output async for output in engine.generate(inputs, sampling(), "theirs")]
    begun: list[int] = []
    tap = CallTap(engine, lambda *_: {}, 64, pair.decode._clock, lambda: begun.append(1))
    (ours,) = [output async for output in tap.generate(inputs, sampling(), "ours")]
    assert begun == [1]
    assert (ours.finished, str(ours.prompt_logprobs)) == (True, str(theirs.prompt_logprobs))
    for name in ("index", "text", "token_ids", "logprobs", "cumulative_logprob", "finish_reason", "stop_reason"):
        assert getattr(ours.outputs[0], name) == getattr(theirs.outputs[0], name), name
