"""Adapters: a pair answers with one as one engine does, and never out of the KV of another."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tandem_engine.engine import Call
from tandem_engine.errors import KvMismatch, NotFound
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.tiny_variants import RANK, make_tiny_adapter
from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import ARGS, MODEL, Pair, ask, chat, completion, config, prompt, running
from tests.vllm_engine.oracle import comparable, vllm_server

pytestmark = pytest.mark.vllm

MODELS = (MODEL, "french", "german")


@module
async def pair(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Both engines with two adapters."""
    folder = tmp_path_factory.mktemp("adapters")
    adapters = [f"{name}={make_tiny_adapter(folder / name, seed)}" for seed, name in enumerate(MODELS[1:])]
    args = (*ARGS, "--enable-lora", f"--max-lora-rank={2 * RANK}", "--max-loras=2", "--lora-modules", *adapters)
    engine = {"type": "vllm", "args": args}
    async with running(tiny_model, config("prefill", engine=engine), config("decode", engine=engine)) as engines:
        yield Pair(*engines)


def asked(model: str, seed: int = 1) -> dict[str, Any]:
    return {"model": model, "prompt": prompt(100, seed=seed)}


@pytest.mark.parametrize("model", MODELS)
async def test_a_pair_answers_as_one_engine_with_an_adapter_or_without(pair: Pair, model: str) -> None:
    alone, together = await pair.whole(asked(model)), await pair.ask(asked(model))
    assert together.reply.kv.outcome == KvReport.TRANSFERRED
    assert together.outcome.usage.computed_tokens == 1
    assert together.text == alone.text
    assert together.reply.json["model"] == model


async def test_each_adapter_answers_in_its_own_way(pair: Pair) -> None:
    answers = [(await pair.ask(asked(model, seed=2))).text for model in MODELS]
    assert len(set(answers)) == len(MODELS)


async def test_a_chat_with_an_adapter_is_the_one_of_vllms_server(pair: Pair) -> None:
    body = {"model": "french", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "temperature": 0}
    async with vllm_server(pair.decode) as oracle:
        theirs = await oracle.answer("/v1/chat/completions", body)
    assert comparable((await pair.ask({**body, "cache_salt": "pair"}, chat)).reply.json) == theirs


@pytest.mark.parametrize(("of", "for_"), [("french", "german"), ("french", MODEL), (MODEL, "french")])
@pytest.mark.parametrize("make", [completion, chat])
async def test_kv_of_another_adapter_is_refused(pair: Pair, of: str, for_: str, make: Any) -> None:
    def body(model: str) -> dict[str, Any]:
        return asked(model, seed=3) if make is completion else {"model": model}

    handle = await pair.handle(body(of), make)
    with pytest.raises(KvMismatch, match="adapter"):
        await ask(pair.decode, make(body(for_), kv=handle))
    pair.prefill.release(handle.lease)


async def test_an_adapter_that_is_not_there_is_not_found(pair: Pair) -> None:
    for run in (pair.prefill.prefill, lambda call: ask(pair.decode, call)):
        with pytest.raises(NotFound, match="klingon"):
            await run(_call("klingon"))


def _call(model: str) -> Call:
    return completion(asked(model))
