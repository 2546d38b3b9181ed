"""/admin/v1/keys: the key store."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime
from tandem_api.registry import IssuedKey, Key, KeySnapshot, NewKey, Page
from tandem_api.registry.base import Request

from tandem_registry.keys import KeyStore
from tandem_registry.paging import LIMIT, Cursor, Limit
from tandem_registry.preconditions import IfNoneMatch, tagged
from tandem_registry.routes.common import CallerHere, NameHere, failing


class Expiry(Request):
    """When a key ends; None: never."""

    expires_at: AwareDatetime | None


def key_routes(keys: KeyStore) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/v1/keys", tags=["keys"])

    @routes.post("", status_code=201, responses=failing(409))
    def create_key(given: NewKey, caller: CallerHere, response: Response) -> IssuedKey:
        """Issue a key. The answer is the only place where it can be read."""
        response.headers["Cache-Control"] = "no-store"
        return keys.create(given, caller)

    @routes.get("")
    def list_keys(
        revoked: Annotated[bool, Query(description="Revoked keys, too.")] = False,
        limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Page[Key]:
        """List keys by id."""
        return keys.page(limit, cursor, revoked=revoked)

    @routes.get("/snapshot", response_model=KeySnapshot)
    def snapshot(if_none_match: IfNoneMatch = None) -> Response:
        """What routers need to check keys by themselves. With If-None-Match it costs next to nothing to ask often."""
        # A key that changes between the two reads makes the next question get everything once more, and nothing worse.
        if if_none_match == f'"{keys.version()}"':
            return Response(status_code=304, headers={"ETag": if_none_match})
        found = keys.snapshot()
        return tagged(found, f'"{found.version}"', None)

    @routes.get("/{id}", responses=failing(404))
    def get_key(id: NameHere) -> Key:
        """Show a key, but for the key itself."""
        return keys.get(id)

    @routes.delete("/{id}", responses=failing(404))
    def revoke_key(id: NameHere) -> Key:
        """Revoke a key for good; routers refuse it within seconds."""
        return keys.revoke(id)

    @routes.post("/{id}/rotate", responses=failing(404, 409))
    def rotate_key(id: NameHere, response: Response) -> IssuedKey:
        """Issue another key under the same id and scopes; the former one ends."""
        response.headers["Cache-Control"] = "no-store"
        return keys.rotate(id)

    @routes.put("/{id}/expiry", responses=failing(404, 409))
    def expire_key(id: NameHere, given: Expiry) -> Key:
        """Let a key end at a time, or never."""
        return keys.expire(id, given.expires_at)

    return routes
