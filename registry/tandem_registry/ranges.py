"""The Range header (RFC 9110, section 14.2): one range of bytes; several at once are answered with the whole file."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` to before `end`."""

    start: int
    end: int
    partial: bool

    @classmethod
    def whole(cls, size: int) -> "Range":
        return cls(0, size, partial=False)


def parse_range(header: str | None, size: int) -> Range | None:
    """What is asked for; None where the file has nothing of it. A header of another form asks for the whole file."""
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or not (match["first"] or match["last"]):
        return Range.whole(size)
    if not match["first"]:
        start, end = max(0, size - int(match["last"])), size
    else:
        start, end = int(match["first"]), min(size, int(match["last"]) + 1) if match["last"] else size
        if match["last"] and int(match["last"]) < start:
            return Range.whole(size)
    return Range(start, end, partial=True) if start < end else None
