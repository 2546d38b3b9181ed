"""A measurement's course, as people see it while it goes."""

import asyncio
import os
import pty
import sys
from contextlib import suppress

import pytest
from tandem_cli.benchmark.driving import Course
from tandem_cli.benchmark.samples import Sample
from tandem_cli.benchmark.showing import line, shown

GOOD = Sample(due=0.0, sent=0.0, end=0.8, moments=(0.2, 0.8), output_tokens=2)
BAD = Sample(due=0.0, sent=0.0, end=0.1, error="status 429")


def test_a_course_in_a_line_has_what_is_done_and_how_fast() -> None:
    told = line(Course(samples=[GOOD, GOOD, BAD], under_way=4))
    assert told.startswith("3 done · 4 under way · 1 failed")
    assert "TTFT p50 0.20 s" in told
    assert "e2e p50 0.80 s" in told


async def test_a_terminal_shows_the_course_while_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    reader, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stderr, monkeypatch.context() as here:
        here.setattr(sys, "stderr", stderr)
        async with shown(Course(samples=[GOOD], under_way=2), lambda: 0.5):
            await asyncio.sleep(0)
    seen = b""
    with os.fdopen(reader, "rb", buffering=0) as terminals, suppress(OSError):  # EIO: all has been read
        while piece := terminals.read(65_536):
            seen += piece
    assert "1 done · 2 under way · 0 failed" in seen.decode()


async def test_a_log_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async with shown(Course(samples=[GOOD]), lambda: None):
        await asyncio.sleep(0)
    assert capsys.readouterr().err == ""
