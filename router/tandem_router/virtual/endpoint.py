"""One path that virtual models answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tandem_api.surfaces import Surface
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_virtual.answering import Models, unknown
from tandem_virtual.outcomes import Forwarded, Outcome, Whole

from tandem_router.endpoints.inference import read_body
from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import Receive, Scope, Send
from tandem_router.frontends.direct import EXTENSION
from tandem_router.frontends.shapes import AnthropicShape, OpenAiShape, ResponsesShape, Shape
from tandem_router.router import Router
from tandem_router.virtual.carrying import Carried, replayed, respond, until_gone
from tandem_router.virtual.models import RouterModels

VIA: Final = "tandem.via"
"""Member of a scope: the proxies that a request came by."""

_PATHS: Final = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}

_SHAPES: Final[dict[str, Shape]] = {
    "chat": OpenAiShape(),
    "responses": ResponsesShape(),
    "messages": AnthropicShape(),
}

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Elsewhere = Callable[[str], Asgi | None]
"""Who serves a path for models that are no virtual ones."""


class VirtualEndpoint:
    """ASGI application of one path (POST).

    Args:
        router: for its settings and its state.
        models: what answers.
        surface: the path's API.
        reachable: the models that the path leads to.
        elsewhere: what proxies forward to.
        counts: the path counts tokens.
    """

    def __init__(
        self,
        router: Router,
        models: RouterModels,
        surface: Surface,
        reachable: Models,
        elsewhere: Elsewhere,
        *,
        counts: bool = False,
    ) -> None:
        self._router = router
        self._models = models
        self._surface = surface
        self._reachable = reachable
        self._elsewhere = elsewhere
        self._counts = counts
        self._shape = _SHAPES[surface.name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._router.draining and not _excused(scope):
                raise CallFailed(pb.UNAVAILABLE, "the router is shutting down", reason="shutdown")
            body = await read_body(scope, receive, dict(scope["headers"]), self._router.settings)
        except CallFailed as failure:
            await self.refuse(failure, send)
            return
        outcome = self._outcome(body, scope.get(VIA, ()))
        if isinstance(outcome, Forwarded):
            await self._forward(outcome, scope, receive, send)
            return
        carried = Carried(self._shape, scope, receive, send)
        self._router.open.add(carried)
        try:
            await carried.run(outcome)
        finally:
            self._router.closed(carried)

    def _outcome(self, body: bytes, via: tuple[str, ...]) -> Outcome:
        answering = self._models.answering
        if self._counts:
            return answering.count(self._reachable, body)
        return answering.answer(self._surface, self._reachable, body, via)

    async def _forward(self, forwarded: Forwarded, scope: Scope, receive: Receive, send: Send) -> None:
        await until_gone(lambda: asyncio.sleep(forwarded.delay), receive)
        endpoint = self._elsewhere(_PATHS[forwarded.surface])
        if endpoint is None:
            await respond(send, unknown(self._surface, forwarded.model))
            return
        # Whoever answers gets the other body, and must not look for this request's own on the connection.
        inner = {
            **scope,
            VIA: forwarded.via,
            "extensions": {key: value for key, value in scope.get("extensions", {}).items() if key != EXTENSION},
            "headers": [(name, value) for name, value in scope["headers"] if name != b"content-length"],
        }
        await endpoint(inner, replayed(forwarded.body, receive), send)

    async def refuse(self, failure: CallFailed, send: Send) -> None:
        """Answers with a failure, in the path's shape."""
        status, body = self._shape.body(failure, "")
        retry = () if failure.retry_after is None else (("retry-after", str(failure.retry_after)),)
        await respond(send, Whole(status=status, body=body, headers=retry))


def _excused(scope: Scope) -> bool:
    """The connection could not know yet that the router ends."""
    direct = scope.get("extensions", {}).get(EXTENSION)
    return direct is not None and bool(direct[0].excused)
