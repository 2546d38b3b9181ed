"""A tokenizer that needs no model: a few hundred words are one token each, all else is cut into pieces of three bytes.

Low ids are words in the forms that sentences need; a piece's id holds its bytes. So every text comes back from its ids,
and counts are near those of real tokenizers (about four characters a token).
"""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from tandem_virtual.words import WORDS


class Form(IntEnum):
    """How a word is written: each form is a token of its own."""

    PLAIN = 0
    SPACED = 1
    CAPITAL = 2
    SPACED_CAPITAL = 3
    SPACED_FULL_STOP = 4


class Mark(IntEnum):
    """Tokens without text: what a chat template puts between messages."""

    MESSAGE = 1
    CONTENT = 2
    END = 3
    IMAGE = 4
    TOOLS = 5


FIRST_WORD: Final = 16
WORD_COUNT: Final = len(WORDS)
MAX_TOKEN_BYTES: Final = 2 + max(len(word) for word in WORDS)
"""No token is longer: a text has at least `len / MAX_TOKEN_BYTES` of them."""

_PIECE_BYTES: Final = 3
_LENGTH_BIT: Final = 25
_SPLIT: Final = re.compile(r" ?[A-Za-z]+\.?|[^A-Za-z ]+| ")


def word_id(word: int, form: Form) -> int:
    """The id of a word (0..WORD_COUNT-1) in a form."""
    return FIRST_WORD + word * len(Form) + form


class Tokenizer:
    """Text to ids and back. Holds tables and no state."""

    def __init__(self) -> None:
        forms = ("{0}", " {0}", "{1}", " {1}", " {0}.")
        texts = [form.format(word, word.capitalize()) for word in WORDS for form in forms]
        self._ids = {text: FIRST_WORD + index for index, text in enumerate(texts)}
        self._texts = [b""] * FIRST_WORD + [text.encode() for text in texts]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; `decode` gives it back. Lone surrogates, which JSON can carry, become "?"."""
        ids = self._ids
        out: list[int] = []
        for part in _SPLIT.findall(text):
            known = ids.get(part)
            if known is not None:
                out.append(known)
                continue
            raw = part.encode("utf-8", "replace")
            for at in range(0, len(raw), _PIECE_BYTES):
                piece = raw[at : at + _PIECE_BYTES]
                out.append(len(piece) << _LENGTH_BIT | int.from_bytes(piece))
        return out

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 that a token stands for; an id that `encode` never gives is U+FFFD."""
        if 0 <= token < len(self._texts):
            return self._texts[token]
        length = token >> _LENGTH_BIT
        value = token & (1 << _LENGTH_BIT) - 1
        if not 1 <= length <= _PIECE_BYTES or value >> 8 * length:
            return "\N{REPLACEMENT CHARACTER}".encode()
        return value.to_bytes(length)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", "replace")
