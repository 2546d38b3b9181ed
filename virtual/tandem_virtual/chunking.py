"""How a text is streamed: in which pieces, and how far apart (requirements VM-40 to VM-43)."""

import re
from typing import Final

CHUNK_DELAY: Final = 0.05
"""Seconds before each chunk of a model without a delay of its own."""
_TOKENS_PER_CHUNK: Final = 3
_TOKEN: Final = re.compile(r"[ \n\t]|[^ \n\t]+")


def chunks(text: str) -> tuple[str, ...]:
    """A text in pieces of three tokens, where a token is a word or one space, newline or tab. No text is one piece."""
    tokens = _TOKEN.findall(text)
    starts = range(0, len(tokens), _TOKENS_PER_CHUNK)
    return tuple("".join(tokens[start : start + _TOKENS_PER_CHUNK]) for start in starts) or ("",)


def chunk_delay(delay: float, count: int) -> float:
    """Seconds to wait before each of `count` chunks: the model's delay is spread over them, and spent only once."""
    return delay / count if delay > 0 and count > 0 else CHUNK_DELAY


def shortened(pieces: tuple[str, ...], length: int) -> tuple[str, ...]:
    """Pieces up to `length` characters in all."""
    kept: list[str] = []
    for piece in pieces:
        if length <= 0 and kept:
            break
        kept.append(piece[:length])
        length -= len(piece)
    return tuple(kept)
