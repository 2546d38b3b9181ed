"""Shorter conversations of the same sense: what earlier rounds hold beyond question and answer is left out.

A round is a message of the user's with all that follows it, up to the next one; messages that only bring results of
tools belong to the round that called them. The last round is never touched: the model is at work on it.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from tandem_api.conversations import Part, ToolResult, ToolUse, Turn
from tandem_api.replies import Text, Thinking

Round = tuple[Turn, ...]
_PATHS: Final = ("file_path", "path", "notebook_path", "filename")
"""Arguments of tools that name a file."""


def rounds(turns: Iterable[Turn]) -> list[Round]:
    """The rounds of a conversation; what stands before the first message of the user's is one, too."""
    found: list[list[Turn]] = []
    for turn in turns:
        if not found or _begins(turn):
            found.append([])
        found[-1].append(turn)
    return [tuple(turns) for turns in found]


def without_old_thinking(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Drops what was thought in earlier rounds."""
    *earlier, last = rounds(turns) or [()]
    kept = (_without(turn, Thinking) for turns in earlier for turn in turns)
    return (*(turn for turn in kept if turn.parts), *last)


def by_rounds(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Keeps of each earlier round what was asked and what was answered last."""
    *earlier, last = rounds(turns) or [()]
    return (*(turn for one in earlier for turn in _condensed(one, ())), *last)


def by_rounds_with_files(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """As `by_rounds`, and names the files that each round's tools were called for."""
    *earlier, last = rounds(turns) or [()]
    return (*(turn for one in earlier for turn in _condensed(one, files_of(one))), *last)


def files_of(turns: Iterable[Turn]) -> tuple[str, ...]:
    """Files that tools were called for, each once, in the order of the calls."""
    found: dict[str, None] = {}
    for call in (part for turn in turns for part in turn.parts if isinstance(part, ToolUse)):
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            continue
        if isinstance(arguments, dict):
            found |= {arguments[name]: None for name in _PATHS if isinstance(arguments.get(name), str)}
    return tuple(found)


def conclusion(turns: Iterable[Turn]) -> str:
    """What the assistant said last in a round."""
    return next((turn.text for turn in reversed(tuple(turns)) if turn.role == "assistant" and turn.text), "")


def _condensed(one: Round, files: tuple[str, ...]) -> Iterator[Turn]:
    asked = (_without(turn, ToolResult) for turn in one if turn.role != "assistant")
    yield from (turn for turn in asked if turn.parts)
    note = f"[files: {', '.join(files)}]" if files else ""
    answered = "\n".join(text for text in (conclusion(one), note) if text)
    if answered:
        yield Turn("assistant", (Text(answered),))


def _begins(turn: Turn) -> bool:
    return turn.role == "user" and not all(isinstance(part, ToolResult) for part in turn.parts)


def _without(turn: Turn, kind: type[Part]) -> Turn:
    parts = tuple(part for part in turn.parts if not isinstance(part, kind))
    return turn if len(parts) == len(turn.parts) else replace(turn, parts=parts, given=None)
