"""Lines of progress."""

import io
import json

from tandem_engine.sources import LineWriter, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_has_at_most_one_line_a_second() -> None:
    stream, clock = io.StringIO(), Clock()
    writer = LineWriter(stream, "json", clock)
    for done in range(0, 1000, 10):
        clock.now = done / 100
        writer(Progress("download", "model", done, 2000))
    assert [json.loads(line)["bytes"] for line in stream.getvalue().splitlines()] == list(range(0, 1000, 100))


def test_the_last_byte_is_always_told() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, "text", Clock())
    for done in (1_000_000, 2_000_000, 3_000_000):
        writer(Progress("download", "model", done, 3_000_000))
    assert stream.getvalue().splitlines() == [
        "download  model  1.0 MB of 3.0 MB (33 %)",
        "download  model  3.0 MB of 3.0 MB (100 %)",
    ]


def test_each_step_is_told_at_once() -> None:
    stream = io.StringIO()
    writer = LineWriter(stream, "text", Clock())
    for step in ("1/2 reading", "2/2 writing"):
        writer(Progress("convert", step))
    assert stream.getvalue().splitlines() == ["convert   1/2 reading", "convert   2/2 writing"]
