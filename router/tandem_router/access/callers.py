"""Who makes a request, and the answer to those who may not."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tandem_api.registry import KeyLimits, Scope

CALLER: Final = "tandem.caller"
"""Member of an ASGI scope: its `Caller`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request, as far as a key tells."""

    id: str
    """Of the key. It may be logged and counted by; it stays the same when the key is rotated. Empty: nobody asked."""
    scopes: frozenset[Scope]
    """All that it may do: those that its scopes include are among them."""
    limits: KeyLimits = field(default_factory=KeyLimits)
    expires_at: float | None = None
    """Unix seconds; None: never."""
    service: bool = False
    """It is a part of this installation, whom the registry lets do what it needs."""


class Refused(Exception):
    """A request that is not let in.

    Attributes:
        status: HTTP status.
        code: What programs tell refusals apart by.
        message: What was wrong and what to do. Safe for clients.
        headers: More of the answer.
        reason: What metrics count refusals by.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = (), reason: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers)
        self.reason = reason or code


def unauthenticated(message: str, code: str = "invalid_api_key") -> Refused:
    """401."""
    return Refused(401, code, message, [("WWW-Authenticate", "Bearer")])


def presented(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key that a request shows: a bearer token, else `x-api-key` as Anthropic's clients send it; empty: none.

    `headers` are an ASGI scope's: names in lower case.
    """
    other = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer" and (key := key.strip()):
                return key.decode("latin-1")
        elif name == b"x-api-key":
            other = value.strip()
    return other.decode("latin-1")
