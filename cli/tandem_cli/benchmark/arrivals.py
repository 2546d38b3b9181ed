"""When requests are due: at once when another one ends (closed loop), or by a schedule that no answer moves (open)."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tandem_cli.benchmark.prompts import Prompt, Prompts
from tandem_cli.failing import Failed

Arrival = tuple[float, Prompt]
"""When it is due, in seconds from the beginning, and what is asked."""


def poisson(rate: float, random: Random, prompts: Prompts) -> Iterator[Arrival]:
    """Independent arrivals, `rate` per second on average, without an end."""
    due = 0.0
    while True:
        due += random.expovariate(rate)
        yield due, prompts.next()


def limited(arrivals: Iterator[Arrival], requests: int | None, seconds: float | None) -> Iterator[Arrival]:
    """The first so many, and of those the ones that are due in time."""
    for due, prompt in itertools.islice(arrivals, requests):
        if seconds is not None and due > seconds:
            return
        yield due, prompt


@dataclass(frozen=True, slots=True)
class Traced:
    """One line of a trace."""

    due: float
    input_tokens: int | None
    output_tokens: int | None
    messages: tuple[dict[str, object], ...] = ()


def read_trace(path: Path) -> tuple[Traced, ...]:
    """Reads a trace, in the shape of Mooncake's.

    A line is a JSON object with `timestamp` in milliseconds, `input_length` and `output_length` in tokens, and, where
    the text is known, `prompt` or `messages`.

    Raises:
        Failed: a line can't be read; the text names it.
    """
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    found = sorted((_traced(path, number, line) for number, line in enumerate(lines, 1)), key=lambda one: one.due)
    if not found:
        raise Failed(f"{path} holds no request", "a trace has a JSON object on each line, with timestamp in ms")
    return tuple(found)


def replayed(trace: tuple[Traced, ...], prompts: Prompts) -> Iterator[Arrival]:
    """A trace's requests, the first at the beginning."""
    for one in trace:
        yield one.due - trace[0].due, prompts.shaped(one.messages, one.input_tokens, one.output_tokens)


def _traced(path: Path, number: int, line: str) -> Traced:
    try:
        read = json.loads(line)
        messages = read.get("messages") or ()
        if not messages and "prompt" in read:
            messages = ({"role": "user", "content": str(read["prompt"])},)
        lengths = [None if read.get(key) is None else int(read[key]) for key in ("input_length", "output_length")]
        return Traced(float(read["timestamp"]) / 1000, lengths[0], lengths[1], tuple(messages))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = 'such as {"timestamp": 1500, "input_length": 600, "output_length": 50}'
        raise Failed(
            f"{path}, line {number}: {type(error).__name__}: {error}; a trace's line is a JSON object", hint
        ) from None
