"""Who may do what.

Everything below /admin/ takes a key: one of the key store with scope `admin`, the static key of the installation, or,
for the few paths that routers, the operator and workers need, the service key. These two come from Secrets, so that the
first key can be made, and the installation works, with an empty store.

This stands before the app: nobody's body is read, and nothing of it is checked, for someone who has no key.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from tandem_api.registry import key_digest

from tandem_registry.database import Database
from tandem_registry.failures import DATABASE_FAILED, Failure, database_failed, response
from tandem_registry.tables import KeyRow

GUARDED: Final = "/admin/"
_FOR_SERVICES: Final = (
    ("GET HEAD", re.compile("/admin/v1/(registry|repository)/.*")),
    ("PUT DELETE", re.compile("/admin/v1/registry/models/[^/]+/versions/[^/]+/uses/.+")),
    ("GET", re.compile("/admin/v1/keys/snapshot")),
    ("GET PUT", re.compile("/admin/v1/experiments/[^/]+/outcome")),
)
"""What the service key is for: methods and paths."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request."""

    key: str
    """The id of the key, or how the caller got in without one of the store."""
    admin: bool
    """May do everything; else what services need."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that need no database, as digests; None: there is none."""

    static: str | None
    service: str | None
    required: bool = True
    """False: everybody may do everything. Asked for by --allow-no-auth only."""


class Access:
    """An ASGI app around the app: it lets through whoever has a key, with the caller at `request.state.caller`."""

    def __init__(self, app: ASGIApp, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
        self._app = app
        self._database = database
        self._keys = keys
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            request = Request(scope)
            try:
                caller = await self._caller(request.headers.get("authorization", ""))
                _check_right(caller, request.method, scope["path"])
            except Failure as failure:
                await response(failure)(scope, receive, send)
                return
            except DATABASE_FAILED as error:
                await database_failed(request, error)(scope, receive, send)
                return
            request.state.caller = caller
        await self._app(scope, receive, send)

    async def _caller(self, authorization: str) -> Caller:
        """Who has this header.

        Raises:
            Failure: 401 without a key, and for one that is unknown, revoked or expired; 403 without scope `admin`.
        """
        if not self._keys.required:
            return Caller("anonymous", admin=True)
        kind, _, key = authorization.partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise _unauthenticated("send a key: Authorization: Bearer KEY")
        digest = key_digest(key.strip())
        if self._keys.static is not None and hmac.compare_digest(digest, self._keys.static):
            return Caller("static-key", admin=True)
        if self._keys.service is not None and hmac.compare_digest(digest, self._keys.service):
            return Caller("service-key", admin=False)
        return await run_in_threadpool(self._stored, digest)

    def _stored(self, digest: str) -> Caller:
        with self._database.reading() as session:
            row = session.scalar(select(KeyRow).where(KeyRow.sha256 == digest))
            if row is None or row.revoked_at is not None:
                raise _unauthenticated("invalid API key")
            if row.expires_at is not None and row.expires_at <= self._clock():
                raise _unauthenticated("this API key has expired")
            if "admin" not in row.scopes:
                raise Failure(403, "insufficient_scope", "insufficient scope: /admin/* needs a key with scope admin")
            return Caller(row.id, admin=True)


def _check_right(caller: Caller, method: str, path: str) -> None:
    if caller.admin or any(method in methods.split() and paths.fullmatch(path) for methods, paths in _FOR_SERVICES):
        return
    raise Failure(403, "insufficient_scope", f"insufficient scope: the service key is not for {method} {path}")


def _unauthenticated(message: str) -> Failure:
    return Failure(401, "invalid_api_key", message, WWW_Authenticate="Bearer")
