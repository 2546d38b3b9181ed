"""A whole conversation as one message, for coding assistants that ask for it when their context is full."""

import re
from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape

from tandem_api.conversations import Turn
from tandem_api.replies import Text

from tandem_virtual.transforms.compaction import (
    by_rounds_with_files,
    conclusion,
    files_of,
    rounds,
    without_old_thinking,
)

_ASKS: Final = re.compile(r"\bcompact\b|\bsummar(y|i[sz]e)\b.*\bconversation\b", re.IGNORECASE | re.DOTALL)
_MANY_ROUNDS: Final = 8


def on_request(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """A summary of all earlier rounds, where the last message asks to compact; else the conversation as it is."""
    return _summary(turns) if _asks(turns) else turns


def by_need(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """A summary where it is asked for; rounds with their files in a long conversation; else no old thinking."""
    if _asks(turns):
        return _summary(turns)
    return by_rounds_with_files(turns) if len(rounds(turns)) > _MANY_ROUNDS else without_old_thinking(turns)


def _asks(turns: tuple[Turn, ...]) -> bool:
    return bool(turns) and turns[-1].role == "user" and _ASKS.search(turns[-1].text) is not None


def _summary(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    system = tuple(turn for turn in turns if turn.role == "system")
    told = tuple(turn for turn in turns[:-1] if turn.role != "system")
    return (*system, Turn("user", (Text("\n".join(_lines(told))),)))


def _lines(turns: tuple[Turn, ...]) -> Iterator[str]:
    yield "<conversation>"
    for one in rounds(turns):
        asked = "".join(turn.text for turn in one if turn.role == "user")
        yield f"<user>{escape(asked)}</user>"
        yield f"<assistant>{escape(conclusion(one))}</assistant>"
    if files := files_of(turns):
        yield f"<files>{escape(', '.join(files))}</files>"
    yield "</conversation>"
