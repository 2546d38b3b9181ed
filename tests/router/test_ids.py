"""Response ids: unique, readable by every replica with the key, and not to be made up."""

import os
import re

from hypothesis import given
from hypothesis import strategies as st
from tandem_router.ids import Origin, ResponseIds

HERE = Origin("default/llama", "v2", "exp-7")


def test_another_replica_reads_where_an_answer_came_from() -> None:
    id = ResponseIds(b"shared", os.urandom).issue("chatcmpl-", HERE)
    assert re.fullmatch(r"chatcmpl-[A-Za-z0-9_-]+", id)
    assert ResponseIds(b"shared", os.urandom).read("chatcmpl-", id) == HERE


def test_no_two_answers_have_the_same_id() -> None:
    ids = ResponseIds(b"shared", os.urandom)
    assert len({ids.issue("cmpl-", HERE) for _ in range(1000)}) == 1000


def test_a_replica_with_another_key_reads_nothing() -> None:
    id = ResponseIds(b"ours", os.urandom).issue("chatcmpl-", HERE)
    assert ResponseIds(b"theirs", os.urandom).read("chatcmpl-", id) is None


def test_an_id_of_another_api_is_not_taken_over() -> None:
    ids = ResponseIds(b"shared", os.urandom)
    id = ids.issue("chatcmpl-", HERE)
    assert ids.read("cmpl-", id.replace("chatcmpl-", "cmpl-")) is None


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{0,80}", fullmatch=True))
def test_a_made_up_id_reads_as_none(text: str) -> None:
    assert ResponseIds(b"shared", os.urandom).read("chatcmpl-", "chatcmpl-" + text) is None


def test_an_id_has_one_spelling() -> None:
    ids = ResponseIds(b"shared", os.urandom)
    assert ids.read("chatcmpl-", ids.issue("chatcmpl-", HERE) + "!") is None


@given(st.data())
def test_a_changed_id_reads_as_none(data: st.DataObject) -> None:
    ids = ResponseIds(b"shared", bytes)
    id = ids.issue("chatcmpl-", HERE)
    at = data.draw(st.integers(len("chatcmpl-"), len(id) - 2))
    letter = data.draw(st.sampled_from([c for c in "ABCDwxyz0189" if c != id[at]]))
    assert ids.read("chatcmpl-", id[:at] + letter + id[at + 1 :]) is None
