"""What an upstream's refusal means to the client, and whether another try may help.

Its own words reach clients only where they are about the request, and then bounded; the rest is for the log.
"""

import json
from collections.abc import Mapping
from typing import Final

from tandem_engine.errors import CallError, DeadlineExceeded, InvalidRequest, Overloaded, RequestTooLarge, Unavailable

_ABOUT_THE_REQUEST: Final = (400, 413, 415, 422)
_UNKNOWN: Final = (404, 405, 501)
_MAX_WORDS: Final = 300


class Refused(Exception):
    """An upstream did not take a call. `after` is the time in seconds that it asked for, if it did."""

    def __init__(self, why: str, error: CallError, *, again: bool, after: float = 0.0) -> None:
        super().__init__(why)
        self.error = error
        """What the client is told where nobody takes the call."""
        self.again = again
        self.after = after


def unreachable(label: str, why: str) -> Refused:
    """No connection, or none that lasted until the first byte."""
    return Refused(f"{label}: {why}", Unavailable("No upstream of this model can be reached."), again=True)


def silent(label: str) -> Refused:
    """No answer in time. It may still be computing: asking again would have it compute twice."""
    return Refused(f"{label}: no answer in time", DeadlineExceeded("The upstream did not answer in time."), again=False)


def refused(label: str, status: int, headers: Mapping[str, str], body: bytes, *, counting: bool = False) -> Refused:
    """An answer with another status than 200; `counting` is what many servers do not know at all."""
    if counting and status in _UNKNOWN:
        error = InvalidRequest("the servers behind this model can't count tokens")
        return Refused(f"{label}: counts no tokens", error, again=False)
    why, after = f"{label}: status {status}", _seconds(headers.get("Retry-After", ""))
    if status == 429:
        return Refused(why, Overloaded("The upstream is overloaded."), again=True, after=after)
    if status >= 500:
        return Refused(why, Unavailable("The upstream fails."), again=True, after=after)
    if status in _ABOUT_THE_REQUEST:
        kind = RequestTooLarge if status == 413 else InvalidRequest
        return Refused(why, kind(_words(body) or "The upstream refuses the request."), again=False)
    if status in (401, 403):
        return Refused(why, Unavailable("The upstream does not accept this service's key."), again=False)
    return Refused(why, Unavailable("The upstream does not serve this model or API."), again=False)


def _words(body: bytes) -> str:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    if not isinstance(message, str):
        return ""
    return "".join(character for character in message if character.isprintable())[:_MAX_WORDS]


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
