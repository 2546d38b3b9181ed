"""The whole way with real programs: a router, a prefill and a decode worker with virtual engines, OpenAI's client."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.router.platforms import ENGINE, MESSAGES, Platform, platform, router


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("pair"), "prefill-0", "decode-0") as here:
        yield here


ASK: dict[str, Any] = {"model": "sky", "messages": MESSAGES, "max_tokens": 12, "seed": 1}


def test_the_sync_client_gets_the_same_answer_streamed_and_whole(pair: Platform) -> None:
    client = pair.openai()
    whole = client.chat.completions.create(**ASK)
    stream = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    texts = [c.delta.content or "" for chunk in stream for c in chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert whole.choices[0].message.content
    counts = [(usage.prompt_tokens, usage.completion_tokens) for usage in (stream[-1].usage, whole.usage)]
    assert counts[0] == counts[1]
    assert [c.finish_reason for chunk in stream for c in chunk.choices if c.finish_reason] == [
        whole.choices[0].finish_reason
    ]
    assert len({chunk.id for chunk in stream} | {whole.id}) == 2
    assert whole.id.startswith("chatcmpl-")


async def test_the_async_client_completes_streamed_and_whole(pair: Platform) -> None:
    async with openai.AsyncOpenAI(base_url=f"{pair.url}/v1", api_key="local") as client:
        ask: dict[str, Any] = {"model": "sky", "prompt": "Once upon a time", "max_tokens": 8, "seed": 1}
        whole = await client.completions.create(**ask)
        stream = await client.completions.create(**ask, stream=True)
        assert "".join([c.choices[0].text async for c in stream if c.choices]) == whole.choices[0].text
        assert whole.id.startswith("cmpl-")


def test_kv_really_moves_and_the_header_says_how_much(pair: Platform) -> None:
    timing = pair.http.post("/v1/chat/completions", json=ASK).headers["server-timing"]
    found = re.search(
        r'kv;dur=[\d.]+;desc="transferred bytes=(\d+) blocks=(\d+) connector=grpc peer=prefill-0"', timing
    )
    assert found, timing
    assert int(found[1]) == int(found[2]) * ENGINE.block_size * ENGINE.bytes_per_token


def test_prompts_that_differ_at_their_beginning_get_different_answers(pair: Platform) -> None:
    texts = set()
    for word in ("Why", "How"):
        messages = [{"role": "user", "content": word + MESSAGES[0]["content"][3:]}]
        answer = pair.openai().chat.completions.create(**{**ASK, "messages": messages})
        texts.add(answer.choices[0].message.content)
    assert len(texts) == 2


def test_a_wrong_request_is_the_workers_own_400(pair: Platform) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        pair.openai().chat.completions.create(**{**ASK, "messages": []})
    assert caught.value.type == "invalid_request_error"


def test_nothing_is_left_at_the_workers(pair: Platform) -> None:
    pair.openai().chat.completions.create(**ASK)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not any(w["leases"] or w["openCalls"] or w["stagedBytes"] or w["kvUse"] for w in pair.workers().values()):
            return
        time.sleep(0.05)
    raise AssertionError(pair.workers())


STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def text_of(client: openai.OpenAI, stream: bool, ask: dict[str, Any]) -> str:
    if not stream:
        return client.chat.completions.create(**ask).choices[0].message.content or ""
    chunks = client.chat.completions.create(**ask, stream=True)
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)


def busy(workers: dict[str, dict[str, Any]], role: str) -> list[str]:
    """The workers of a role that have calls, by their own word."""
    return [name for name, worker in workers.items() if worker["role"] == role and worker["openCalls"]]


@STREAMED
def test_a_prefill_worker_killed_while_it_computes_costs_no_answer(
    tmp_path: Path, pair: Platform, stream: bool
) -> None:
    names = ("prefill-0", "prefill-1", "decode-0")
    with (
        platform(tmp_path, *names, prefill_0={"prefill_token_time": 10}) as here,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(text_of, here.openai(), stream, ASK)
        # Prefill workers are asked in turn, the first one first; it would compute for minutes.
        here.until(lambda workers: busy(workers, "prefill") == ["prefill-0"])
        here.kill("prefill-0")
        assert answer.result(60) == text_of(pair.openai(), stream, ASK)
        here.until_at_rest()
        assert not here.workers()["prefill-0"]["connected"]


@STREAMED
@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_a_worker_killed_between_prefill_and_the_first_byte_costs_no_answer(
    tmp_path: Path, pair: Platform, role: str, stream: bool
) -> None:
    names = ("prefill-0", "prefill-1", "decode-0", "decode-1")
    # Few tokens, so that decode may also compute them, where the kill comes before it has the KV.
    ask = {**ASK, "messages": [{"role": "user", "content": "Why?"}]}
    # A decode worker that is to be killed would never come to its first byte.
    seconds = 1000 if role == "decode" else 4
    with (
        platform(tmp_path, *names, decode_0={"prefill_token_time": seconds}) as here,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(text_of, here.openai(), stream, ask)
        # Workers of a role are asked in turn, the first one first.
        here.until(lambda workers: busy(workers, "decode") == ["decode-0"] and not busy(workers, "prefill"))
        here.kill(f"{role}-0")
        assert answer.result(120) == text_of(pair.openai(), stream, ask)
        here.until_at_rest()


def test_a_decode_worker_killed_in_mid_stream_ends_the_stream_with_a_typed_error(tmp_path: Path) -> None:
    with platform(tmp_path, "prefill-0", "decode-0", "decode-1") as here:
        endless = {**ASK, "max_tokens": 8000, "stream": True, "extra_body": {"ignore_eos": True}}
        stream = iter(here.openai().chat.completions.create(**endless))
        next(stream)
        here.until(lambda workers: bool(busy(workers, "decode")))
        here.kill(busy(here.workers(), "decode")[0])
        with pytest.raises(openai.APIError, match="lost"):
            list(stream)
        here.until_at_rest()
        # The other one goes on serving.
        assert here.openai().chat.completions.create(**ASK).choices[0].message.content


def test_a_router_whose_calls_never_leave_a_place_free_keeps_no_other_from_the_worker(tmp_path: Path) -> None:
    ask = {**ASK, "messages": [{"role": "user", "content": "Why?"}]}
    answers: list[str] = []
    asking = True

    def hog(client: openai.OpenAI) -> None:
        while asking:
            answers.append(text_of(client, False, ask))

    with (
        platform(tmp_path, "prefill-0", "decode-0", decode={"slots": 2, "decode_step_time": 0.1}) as one,
        router(tmp_path) as other,
        ThreadPoolExecutor(6) as pool,
    ):
        other.until_ready("prefill-0", "decode-0")
        hogs = [pool.submit(hog, one.openai()) for _ in range(6)]
        one.until(lambda workers: workers["decode-0"]["openCalls"] >= 2)
        before = len(answers)
        texts = {text_of(other.openai(), False, ask) for _ in range(3)}
        meanwhile = len(answers) - before
        asking = False
        for each in hogs:
            each.result(60)
    assert texts == set(answers)
    assert meanwhile < 15  # each has one of the two places; left over, places come by about once in ten calls
