"""Numbers, tables and accounts as people read them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_cli.account import Account, Timing
from tandem_cli.runner import last_lines, readable
from tandem_cli.text import seconds, size, table

HEADER = (
    'prefill;dur=210.3, kv;dur=9.1;desc="transferred bytes=2949120 blocks=2 connector=grpc peer=smollm2-v1-prefill-0"'
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0091, "9 ms"), (0.0994, "99 ms"), (0.21, "0.21 s"), (9.99, "9.99 s"), (14.4, "14 s"), (125, "2 min 5 s")],
)
def test_durations_are_short(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (2949120, "2.9 MB"), (999_960, "1.0 MB"), (3 * 10**12, "3.0 TB")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "B"), [("long", "x"), ("y", "z")]) == "A     B\nlong  x\ny     z"


def test_an_account_says_what_experience_promises() -> None:
    account = Account(Timing.parse(HEADER), first_token=0.29, generating=8 / 14, tokens=9)
    assert account.line() == (
        "prefill 0.21 s · KV 2.9 MB (2 blocks) over grpc from prefill-0 in 9 ms · first token 0.29 s · 14 tok/s · "
        "9 tokens"
    )


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ('prefill;dur=8, kv;dur=0;desc="recomputed reason=gone"', "prefill 8 ms · KV recomputed (gone) · "),
        ('kv;dur=0;desc="whole reason=echo"', "prompt run whole on decode (echo) · "),
        ("", "first token "),
    ],
)
def test_an_account_says_when_no_kv_moved(header: str, says: str) -> None:
    account = Account(Timing.parse(header), first_token=0.1, generating=0.0, tokens=1)
    assert account.line().startswith(says)
    assert account.line().endswith("first token 0.10 s · 1 token")
    assert not account.timing.transferred


@given(st.text(max_size=80))
def test_any_header_of_a_stranger_is_read_without_harm(header: str) -> None:
    Timing.parse(header)


WORDS = st.sampled_from(["transferred", "bytes=1", "bytes=", "bytes=x", "blocks=2", "blocks=²", "peer", "peer=a=b", ""])
VALUES = st.sampled_from(["9.1", "", "x", '"9"', "1e3", "-1", "nan"])


@given(VALUES, VALUES, st.lists(WORDS, max_size=5))
def test_headers_that_are_nearly_right_are_read_without_harm(prefill: str, kv: str, words: list[str]) -> None:
    Timing.parse(f'prefill;dur={prefill}, kv;dur={kv};desc="{" ".join(words)}"')
    Timing.parse(f"prefill, kv;desc={' '.join(words)}")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("plain text", "plain text"),
        ("(EngineCore pid=28927) INFO 11-21 08:01:35 [core.py:1499] [shutdown] exiting", "exiting"),
        ("WARNING 11-21 08:01:35 [core.py:1499] careful", "careful"),
        ('{"message": "listening", "level": "info"}', "listening"),
        ('{"message": "failed", "error": "ValueError: no"}', "failed: ValueError: no"),
        (r'{"message": "failed", "exception": "Traceback:\n  File x\nValueError: no\n"}', "failed: ValueError: no"),
        ('{"message": "can not: wrong: no", "exception": "ValueError: wrong: no"}', "can not: wrong: no"),
        ('{"message": "failed", "error": "gone"}', "failed: gone"),
        ('{"step": "download", "message": "model", "bytes": 5, "total_bytes": 20}', "download model (25 %)"),
        ('{"other": 1}', '{"other": 1}'),
        ("{broken", "{broken"),
        ("[1]", "[1]"),
    ],
)
def test_json_lines_are_shown_by_their_message(line: str, text: str) -> None:
    assert readable(line) == text


def test_the_end_of_a_log_is_what_a_terminal_would_show(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log, 3) == []
    log.write_bytes(b"first\n\n 10 %\r 20 %\r\nlast \xff\n")
    assert last_lines(log, 2) == [" 20 %", "last \ufffd"]
    assert last_lines(log, 9) == ["first", " 20 %", "last \ufffd"]
