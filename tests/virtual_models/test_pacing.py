import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.conversations import Ask
from tandem_virtual.chunking import CHUNK_DELAY, chunk_delay, chunks, shortened
from tandem_virtual.estimating import estimate, estimate_messages, estimate_prompt
from tandem_virtual.models import StaticModel
from tandem_virtual.outcomes import Streamed, stream_of

from tests.virtual_models.asking import SURFACES, asked, request, streamed, with_models

MODEL = StaticModel(id="m", content="One two three four five six", delay=0.4)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello world this is a test", ("Hello world", " this ", "is a", " test")),
        ("", ("",)),
        (" a\tb\nc", (" a\t", "b\nc")),
    ],
)
def test_three_words_or_spaces_are_a_chunk(text: str, pieces: tuple[str, ...]) -> None:
    assert chunks(text) == pieces


@given(st.text())
def test_chunks_join_to_their_text(text: str) -> None:
    assert "".join(chunks(text)) == text


@given(st.text(), st.integers(0, 50))
def test_shortened_chunks_join_to_the_beginning(text: str, length: int) -> None:
    assert "".join(shortened(chunks(text), length)) == text[:length]


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (11, 3)])
def test_four_bytes_are_a_token(size: int, tokens: int) -> None:
    assert estimate("a" * size) == tokens


def test_bytes_count_and_not_characters() -> None:
    assert estimate("ä🙂") == 2


def test_each_message_costs_five_tokens_more() -> None:
    assert estimate_messages([["Hello world"], ["Hi there"]]) == 15


def test_a_prompt_counts_the_same_on_all_surfaces() -> None:
    turns = [{"role": "user", "content": "Hello world"}, {"role": "assistant", "content": "Hi there"}]
    asks: list[Ask] = [
        SURFACES["chat"].read(_body(messages=[{"role": "system", "content": "Be brief"}, *turns])),
        SURFACES["responses"].read(_body(input=turns, instructions="Be brief")),
        SURFACES["messages"].read(_body(messages=turns, system="Be brief")),
    ]
    assert [estimate_prompt(ask) for ask in asks] == [22, 22, 22]


def _body(**members: object) -> bytes:
    return json.dumps({"model": "m", **members}).encode()


def test_a_models_delay_is_spread_over_its_chunks() -> None:
    assert chunk_delay(0.4, 4) == 0.1
    assert chunk_delay(0.0, 4) == chunk_delay(0.4, 0) == CHUNK_DELAY == 0.05


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_takes_the_models_delay_once(surface: str) -> None:
    registries = with_models(MODEL)
    stream = streamed(registries, surface, request(surface, "m"))
    assert stream.chunk_delay * len(stream.chunks) == pytest.approx(0.4)
    assert stream.delay == stream.pause == 0
    assert asked(registries, surface, request(surface, "m")).delay == 0.4


async def test_a_stream_waits_before_each_chunk_and_not_after() -> None:
    order: list[object] = []
    happened = order.append

    async def sleep(seconds: float) -> None:
        happened(seconds)

    stream = Streamed(opening=b"o", chunks=(b"1", b"2"), chunk_delay=0.1, closing=b"c")
    async for chunk in stream_of(stream, sleep):
        happened(chunk)
    assert order == [b"o", 0.1, b"1", 0.1, b"2", b"c"]
