"""Counts of tokens without a tokenizer: four bytes are a token (requirements VM-44, VM-45)."""

from collections.abc import Iterable
from typing import Final

from tandem_api.conversations import Ask
from tandem_api.replies import Text

BYTES_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 5
"""What a message costs besides its text."""
CALL_TOKENS: Final = 20
"""What a tool call costs."""
PROXY_TOKENS: Final = 50
"""The answer of a proxy that forwards to no one, whatever it says."""


def estimate(text: str) -> int:
    """Tokens of a text: none for none, else its bytes of UTF-8 by four, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def estimate_messages(texts: Iterable[Iterable[str]]) -> int:
    """Tokens of messages, each given as its texts."""
    return sum(MESSAGE_TOKENS + sum(map(estimate, message)) for message in texts)


def estimate_prompt(ask: Ask) -> int:
    """Tokens of a request. Text counts, the same on all surfaces; images and tools do not."""
    messages = [[part.text for part in turn.parts if isinstance(part, Text)] for turn in ask.turns]
    return estimate_messages([[ask.instructions], *messages] if ask.instructions else messages)
