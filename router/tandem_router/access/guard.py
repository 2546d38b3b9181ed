"""The door: every request passes here before anything of it is read, on whatever path."""

from typing import Final

from starlette.responses import Response
from tandem_api.anthropic.errors import error_body as anthropic_error
from tandem_api.anthropic.errors import error_type
from tandem_api.openai.errors import error_body
from tandem_api.surfaces.types import openai_type

from tandem_router.access.callers import CALLER, Caller, Refused, presented, unauthenticated
from tandem_router.access.ring import KeyRing
from tandem_router.access.scopes import EVERYTHING, needed
from tandem_router.access.settings import AccessSettings
from tandem_router.frontends.clients import Receive, Scope, Send
from tandem_router.frontends.shapes import is_anthropic

REGISTRY: Final = "/admin/"
"""Paths of the registry, which knows best what a service may do there."""

ANYBODY: Final = Caller("", EVERYTHING)
"""Who comes where no key is asked for."""


class Guard:
    """Lets requests in, by their keys."""

    def __init__(self, settings: AccessSettings, ring: KeyRing) -> None:
        self._settings = settings
        self._ring = ring

    def admit(self, scope: Scope) -> Caller:
        """Finds out who makes a request, and notes it in its scope, too.

        Raises:
            Refused: it has no key, or not one for this.
        """
        caller = scope[CALLER] = self._caller(scope) if self._settings.required else ANYBODY
        return caller

    def _caller(self, scope: Scope) -> Caller:
        method, path = scope["method"], scope["path"]
        wanted = needed(method, path)
        if wanted is None or (self._settings.virtual_open and wanted != "admin" and path.startswith("/virtual/")):
            return ANYBODY
        key = presented(scope["headers"])
        if not key:
            raise unauthenticated("send a key: Authorization: Bearer KEY, or x-api-key: KEY", "missing_api_key")
        caller = self._ring.caller(key)
        if wanted not in caller.scopes and not (caller.service and path.startswith(REGISTRY)):
            message = f"insufficient scope: {method} of this path needs a key with scope {wanted}"
            raise Refused(403, "insufficient_scope", message)
        return caller


class Refusal:
    """ASGI application that says no, in the shape of the path's API."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refused
        if is_anthropic(scope["path"]):
            body = anthropic_error(refused.message, type=error_type(refused.status))
        else:
            kind = "server_error" if refused.status >= 500 else openai_type(refused.status)
            body = error_body(refused.message, type=kind, code=refused.code)
        await Response(body, refused.status, refused.headers, "application/json")(scope, receive, send)
