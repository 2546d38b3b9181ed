"""What a terminal shows."""

from io import RawIOBase
from select import select


def read_until(shown: RawIOBase, text: bytes) -> None:
    """Reads the other side of a terminal until this is there: it may come in pieces."""
    seen = b""
    while text not in seen:
        assert select([shown], [], [], 60)[0], seen
        seen += shown.read(65_536) or b""
