"""What is asked: words in number, or lines of a dataset.

Without a model's tokeniser a prompt's length is that of common English words, each about one token; what the server
counted stands in the report.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from tandem_cli.failing import Failed

_WORDS: Final = (
    *("river", "stone", "winter", "garden", "music", "paper", "window", "silver", "morning", "forest"),
    *("water", "light", "house", "letter", "summer", "bread", "table", "green", "road", "market"),
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation, and how long the answer may be."""

    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int


class Prompts:
    """Gives prompts, one after another, the same ones for the same seed.

    Args:
        random: draws the words. No two prompts begin alike, so that no prefix cache helps where none would.
        input_tokens: length of drawn prompts.
        output_tokens: of answers whose prompt says nothing of it.
        dataset: what to ask in its stead, over and over.
    """

    def __init__(self, random: Random, input_tokens: int, output_tokens: int, dataset: Sequence[Prompt] = ()) -> None:
        self._random = random
        self._input_tokens = input_tokens
        self._output_tokens = output_tokens
        self._dataset = dataset
        self._given = 0

    def next(self) -> Prompt:
        """The next one."""
        if not self._dataset:
            return self.shaped((), None, None)
        prompt = self._dataset[self._given % len(self._dataset)]
        self._given += 1
        return prompt

    def shaped(
        self, messages: Sequence[Mapping[str, Any]], input_tokens: int | None, output_tokens: int | None
    ) -> Prompt:
        """One that a trace describes; words are drawn where it has no text."""
        text = " ".join(self._random.choices(_WORDS, k=max(1, input_tokens or self._input_tokens)))
        return Prompt(tuple(messages) or ({"role": "user", "content": text},), output_tokens or self._output_tokens)


def read_dataset(path: Path, output_tokens: int) -> tuple[Prompt, ...]:
    """Reads a dataset: a JSON object a line with `prompt` or `messages`, and `max_tokens` where it differs.

    Raises:
        Failed: a line can't be read; the text names it.
    """
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    found = tuple(_prompt(path, number, line, output_tokens) for number, line in enumerate(lines, 1))
    if not found:
        raise Failed(f"{path} holds no prompt", "a dataset has a JSON object on each line, with prompt or messages")
    return found


def _prompt(path: Path, number: int, line: str, output_tokens: int) -> Prompt:
    try:
        read = json.loads(line)
        messages = read["messages"] if "messages" in read else ({"role": "user", "content": str(read["prompt"])},)
        return Prompt(tuple(dict(message) for message in messages), int(read.get("max_tokens") or output_tokens))
    except (ValueError, KeyError, TypeError) as error:
        raise Failed(
            f"{path}, line {number}: {type(error).__name__}: {error}",
            'write a JSON object: {"prompt": "Why?"} or {"messages": [...], "max_tokens": 100}',
        ) from None
