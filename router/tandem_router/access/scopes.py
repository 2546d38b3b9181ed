"""What a key has to be for, by method and path (requirements AK-04), and which scopes include which."""

from collections.abc import Iterable
from typing import Final

from tandem_api.registry import Scope

OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml"})
"""Paths that nobody needs a key for."""

EVERYTHING: Final[frozenset[Scope]] = frozenset({"admin", "inference", "training", "read_only"})

_INCLUDED: Final[dict[Scope, frozenset[Scope]]] = {
    "admin": EVERYTHING,
    "inference": frozenset({"inference", "read_only"}),
    "training": frozenset({"training"}),
    "read_only": frozenset({"read_only"}),
}
_ADMIN: Final = ("/admin/", "/virtual/admin/")


def granted(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """All that scopes allow."""
    return frozenset[Scope]().union(*(_INCLUDED[scope] for scope in scopes))


def needed(method: str, path: str) -> Scope | None:
    """The scope that a request needs; None: it needs no key.

    Reading needs `read_only` and posting `inference`; all else changes the platform, as everything below /admin/ does.
    """
    if path in OPEN:
        return None
    if path.startswith(_ADMIN):
        return "admin"
    if method == "POST":
        return "inference"
    return "read_only" if method in ("GET", "HEAD", "OPTIONS") else "admin"
