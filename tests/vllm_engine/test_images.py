"""Images in a prompt: their KV moves like that of words, and is the KV of these very images."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image
from tandem_engine.errors import InvalidRequest, KvMismatch
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.tiny_variants import IMAGE_TOKENS, make_tiny_vision
from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import BLOCK_BYTES, Pair, ask, chat, config, running
from tests.vllm_engine.oracle import comparable, vllm_server

pytestmark = pytest.mark.vllm

ARGS = ("--max-model-len=1024", "--max-num-seqs=4", f"--kv-cache-memory-bytes={80 * BLOCK_BYTES}")
QUESTION = "what do you see here? " * 4


@module
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Both engines with a model that sees."""
    model = make_tiny_vision(tmp_path_factory.mktemp("vision"))
    engine = {"type": "vllm", "args": (*ARGS, '--limit-mm-per-prompt={"image": 2}')}
    async with running(model, config("prefill", engine=engine), config("decode", engine=engine)) as engines:
        yield Pair(*engines)


def image(color: str) -> dict[str, Any]:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def asked(*colors: str) -> dict[str, Any]:
    content = [*(image(color) for color in colors), {"type": "text", "text": QUESTION}]
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("colors", [("red",), ("red", "blue"), ()], ids=["one", "two", "none"])
async def test_a_pair_answers_about_images_as_vllms_server_does(pair: Pair, colors: tuple[str, ...]) -> None:
    body = {"model": "tiny", "max_tokens": 12, "temperature": 0, **asked(*colors)}
    async with vllm_server(pair.decode) as oracle:
        theirs = await oracle.answer("/v1/chat/completions", body)
    answer = await pair.ask({**asked(*colors), "cache_salt": f"pair {colors}"}, chat)
    assert answer.reply.kv.outcome == KvReport.TRANSFERRED
    assert answer.outcome.usage.computed_tokens == 1
    assert comparable(answer.reply.json) == theirs


async def test_an_image_is_tokens_of_the_prompt_and_changes_the_answer(pair: Pair) -> None:
    none, red, blue = [await pair.ask(asked(*colors), chat) for colors in ((), ("red",), ("blue",))]
    assert red.text != blue.text
    more = red.outcome.usage.prompt_tokens - none.outcome.usage.prompt_tokens
    assert more == IMAGE_TOKENS + 1  # vLLM begins a line after an image


@pytest.mark.parametrize(
    ("of", "for_"), [(("red",), ("blue",)), (("red", "blue"), ("blue", "red"))], ids=["another", "another order"]
)
async def test_kv_of_another_image_is_refused(pair: Pair, of: tuple[str, ...], for_: tuple[str, ...]) -> None:
    handle = await pair.handle(asked(*of), chat)
    with pytest.raises(KvMismatch):
        await ask(pair.decode, chat(asked(*for_), kv=handle))
    pair.prefill.release(handle.lease)


async def test_more_images_than_the_engine_takes_are_refused(pair: Pair) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        await pair.prefill.prefill(chat(asked("red", "blue", "green")))
