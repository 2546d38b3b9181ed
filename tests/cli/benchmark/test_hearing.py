"""What a stream says, however its bytes are cut."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_cli.benchmark.hearing import CUT, EVENT, GARBLED, Hearing
from tandem_cli.benchmark.protocols import APIS


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + (e if isinstance(e, bytes) else json.dumps(e).encode()) + b"\n\n" for e in events)


def delta(**members: object) -> dict[str, object]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": members}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7}}
CHAT = [delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo"), USAGE, b"[DONE]"]
MESSAGES = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hé"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "llo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]
RESPONSES = [
    {"type": "response.created", "response": {"usage": None}},
    {"type": "response.output_text.delta", "delta": "Hé"},
    {"type": "response.output_text.delta", "delta": "llo"},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 12, "output_tokens": 7}}},
    b"[DONE]",
]


@pytest.mark.parametrize(("api", "events"), [("chat", CHAT), ("messages", MESSAGES), ("responses", RESPONSES)])
def test_each_api_gives_content_moments_and_the_servers_own_token_counts(api: str, events: list[object]):
    hearing = Hearing(APIS[api], due=1.0, sent=1.0)
    for at, event in enumerate(events):
        hearing.piece(sse(event), 2.0 + at)
    heard = hearing.streamed(end=20.0)
    assert not heard.error
    assert len(heard.moments) == 2
    assert heard.itl == (1.0,)
    assert (heard.prompt_tokens, heard.output_tokens, heard.latency) == (12, 7, 19.0)


@given(st.lists(st.integers(0, len(sse(*CHAT))), max_size=20))
def test_where_the_bytes_are_cut_changes_nothing(cuts: list[int]):
    data, hearing = sse(*CHAT), Hearing(APIS["chat"], 0.0, 0.0)
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        hearing.piece(data[start:end], 1.0)
    heard = hearing.streamed(2.0)
    assert (heard.error, len(heard.moments), heard.output_tokens) == ("", 2, 7)


def test_the_role_alone_is_no_first_token():
    hearing = Hearing(APIS["chat"], 0.0, 0.0)
    hearing.piece(sse(CHAT[0]), 1.0)
    hearing.piece(sse(CHAT[1]), 3.0)
    assert hearing.streamed(4.0).ttft == 3.0


@pytest.mark.parametrize(
    ("events", "error"),
    [
        (CHAT[:3], CUT),
        ([*CHAT[:3], {"error": {"message": "out of memory"}}, b"[DONE]"], EVENT),
        ([CHAT[0], b"{oops", b"[DONE]"], GARBLED),
    ],
)
def test_a_stream_that_ends_badly_is_a_failure_of_its_kind(events: list[object], error: str):
    hearing = Hearing(APIS["chat"], 0.0, 0.0)
    hearing.piece(sse(*events), 1.0)
    assert hearing.streamed(2.0).error == error


def test_a_whole_answer_has_tokens_and_no_first_one():
    body = json.dumps({"object": "chat.completion", **USAGE}).encode()
    heard = Hearing(APIS["chat"], 0.0, 0.0).whole(body, 3.0)
    assert (heard.error, heard.ttft, heard.output_tokens, heard.latency) == ("", None, 7, 3.0)
