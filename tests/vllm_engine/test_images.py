"""Images in a prompt: their KV moves like that of words, and is the KV of these very images."""

import base64
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image
from tandem_engine.errors import InvalidRequest, KvMismatch
from tandem_engine.vllm.serving import Serving
from tandem_proto.tandem.v1.worker_pb2 import KvReport

from tests.surfaces.transport import Transport
from tests.tiny_variants import IMAGE_TOKENS, make_tiny_vision
from tests.vllm_engine.clients import by
from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import BLOCK_BYTES, MODEL, Pair, ask, chat, config, running
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


def block(color: str) -> dict[str, Any]:
    """An image as Messages have it."""
    data = image(color)["image_url"]["url"].partition(",")[2]
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


async def test_all_surfaces_see_the_same_image(pair: Pair) -> None:
    transport = Transport(by(pair))
    seen = (await pair.ask(asked("red"), chat)).text
    common: Any = {"model": MODEL, "extra_body": {"temperature": 0}}
    for color, same in (("red", True), ("blue", False)):
        content: Any = [block(color), {"type": "text", "text": QUESTION}]
        message: Any = {"max_tokens": 12, "messages": [{"role": "user", "content": content}], **common}
        whole = await transport.claude.messages.create(**message)
        async with transport.claude.messages.stream(**message) as stream:
            assert await stream.get_final_text() == whole.content[0].text
        parts: Any = [
            {"type": "input_image", "detail": "auto", "image_url": image(color)["image_url"]["url"]},
            {"type": "input_text", "text": QUESTION},
        ]
        item: Any = {"max_output_tokens": 12, "input": [{"role": "user", "content": parts}], **common}
        response = await transport.gpt.responses.create(**item)
        last = [event async for event in await transport.gpt.responses.create(**item, stream=True)][-1]
        assert response.output_text == last.response.output_text == whole.content[0].text
        assert (whole.content[0].text == seen) is same
    assert {reply.kv.outcome for reply in transport.replies} == {KvReport.TRANSFERRED}


async def test_an_image_in_a_tools_result_is_seen(pair: Pair) -> None:
    counted = []
    for result in ([block("red")], [{"type": "text", "text": "See."}]):
        turns: Any = [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": result}]},
        ]
        found = await Transport(by(pair)).claude.messages.count_tokens(model=MODEL, messages=turns)
        counted.append(found.input_tokens)
    assert counted[0] >= counted[1] + IMAGE_TOKENS - 8


@pytest.mark.parametrize(
    ("of", "for_"), [(("red",), ("blue",)), (("red", "blue"), ("blue", "red"))], ids=["another", "another order"]
)
async def test_kv_of_another_image_is_refused(pair: Pair, of: tuple[str, ...], for_: tuple[str, ...]) -> None:
    handle = await pair.handle(asked(*of), chat)
    with pytest.raises(KvMismatch):
        await ask(pair.decode, chat(asked(*for_), kv=handle))
    pair.prefill.release(handle.lease)


async def test_images_that_nothing_names_by_their_content_run_whole(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = chat(asked("green"))
    with monkeypatch.context() as patch:
        patch.setattr(Serving, "hashes_inputs", False)
        outcome = await pair.prefill.prefill(call)
    assert (outcome.whole_reason, outcome.kv) == ("multimodal", None)
    answer = await ask(pair.decode, replace(call, whole_reason="multimodal"))
    assert (answer.reply.kv.outcome, answer.reply.kv.reason) == (KvReport.WHOLE, "multimodal")
    assert (await pair.handle(asked("green"), chat)).tokens > IMAGE_TOKENS  # which had not been computed before


async def test_an_image_that_was_only_counted_can_be_asked_about(pair: Pair) -> None:
    turns: Any = [{"role": "user", "content": [block("purple"), {"type": "text", "text": QUESTION}]}]
    counted = await Transport(by(pair)).claude.messages.count_tokens(model=MODEL, messages=turns)
    answer = await pair.ask(asked("purple"), chat)
    assert answer.outcome.usage.prompt_tokens == counted.input_tokens


async def test_an_image_of_a_refused_call_can_be_asked_about(pair: Pair) -> None:
    handle = await pair.handle(asked("black"), chat)
    with pytest.raises(KvMismatch):
        await ask(pair.decode, chat(asked("white"), kv=handle))
    pair.prefill.release(handle.lease)
    assert (await ask(pair.decode, chat(asked("white")))).outcome.usage.completion_tokens > 0


async def test_more_images_than_the_engine_takes_are_refused(pair: Pair) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        await pair.prefill.prefill(chat(asked("red", "blue", "green")))
