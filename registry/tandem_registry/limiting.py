"""Bounds on bodies: JSON of more than a megabyte is nothing that this API knows. Uploads have bounds of their own."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tandem_registry.failures import Failure, response

MOST_BYTES: Final = 1 << 20
_UPLOADS: Final = "/admin/v1/repository/uploads/"


class BodyLimit:
    """An ASGI app around the app: 413 for larger bodies, before they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UPLOADS):
            await self._app(scope, receive, send)
            return
        pieces: list[bytes] = []
        size = 0
        more = scope["method"] not in ("GET", "HEAD")
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            more = message.get("more_body", False)
            if size > MOST_BYTES:
                failure = Failure(413, "body_too_large", f"the body is larger than {MOST_BYTES:,} bytes", "body")
                await response(failure)(scope, receive, send)
                return
        whole: list[Message] = [{"type": "http.request", "body": b"".join(pieces), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, again, send)
