"""API keys: what is told of them, and what routers get to check them by themselves.

Scopes are those of the OpenAI-compatible servers' convention (inference, training, admin, read_only); `admin` includes
all others, `inference` includes `read_only`. Whoever checks a key does that; the store keeps what was given.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from tandem_api.registry.base import Answer, Name, Note, Request

Scope = Literal["inference", "training", "admin", "read_only"]


class KeyLimits(Request):
    """What a key may use; None: what the router's settings say."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None


class NewKey(Request):
    """POST /admin/v1/keys."""

    id: Name
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=4)]
    description: Note = ""
    expires_at: AwareDatetime | None = None
    """None: never."""
    limits: KeyLimits = KeyLimits()


class Key(Answer):
    """A key as it can be told: neither the key nor its hash."""

    object: Literal["key"] = "key"
    id: str
    scopes: tuple[Scope, ...]
    description: str
    limits: KeyLimits
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    rotated_at: datetime | None
    revoked_at: datetime | None


class IssuedKey(Key):
    """The answer to creating or rotating a key, and the only one that holds the key itself."""

    key: str


class SnapshotKey(Answer):
    """What a router needs of a key. Expiry is for the router to mind."""

    id: str
    sha256: str
    """`key_digest` of the key."""
    scopes: tuple[Scope, ...]
    expires_at: datetime | None
    limits: KeyLimits


class KeySnapshot(Answer):
    """GET /admin/v1/keys/snapshot: all keys that are neither revoked nor expired. With If-None-Match: 304."""

    version: int
    """Grows with every change of any key."""
    keys: tuple[SnapshotKey, ...]


def key_digest(key: str) -> str:
    """SHA-256 of a raw key, in hexadecimal: what is stored and compared. With 256 random bits it needs no salt."""
    return hashlib.sha256(key.encode()).hexdigest()
