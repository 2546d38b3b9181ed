"""Virtual models beside real ones in /v1: whoever is served for real answers, then a virtual model of that name."""

from collections.abc import Callable
from typing import Final

import msgspec
from tandem_virtual.answering import Models

from tandem_router.endpoints.inference import read_body
from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import Receive, Scope, Send
from tandem_router.frontends.direct import EXTENSION, body_at_hand
from tandem_router.settings import Settings
from tandem_router.virtual.carrying import replayed
from tandem_router.virtual.endpoint import Asgi, VirtualEndpoint


class _Named(msgspec.Struct):
    model: str


_DECODER: Final = msgspec.json.Decoder(_Named)


class Listed:
    """ASGI application of one path of /v1.

    Args:
        real: answers for models that workers serve.
        virtual: answers for virtual models.
        models: the virtual ones.
        served: whether a model of this name is served for real.
        enveloped: what surrounds an application that does not look after headers and accounts itself.
        settings: limits of a body.
    """

    def __init__(
        self,
        real: Asgi,
        virtual: VirtualEndpoint,
        models: Models,
        served: Callable[[str], bool],
        enveloped: Callable[[Asgi], Asgi],
        settings: Settings,
    ) -> None:
        self._real = real
        self._virtual = virtual
        self._models = models
        self._served = served
        self._enveloped = enveloped
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope.get("extensions", {}).get(EXTENSION)
        at_hand = direct is not None and body_at_hand(direct[1]) is not None
        try:
            body = await read_body(scope, receive, dict(scope["headers"]), self._settings)
        except CallFailed as error:
            failure = error

            async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
                await self._virtual.refuse(failure, send)

            await self._enveloped(refuse)(scope, receive, send)
            return
        model = _model(body)
        virtual = model is not None and not self._served(model) and self._models.get(model) is not None
        answer = self._enveloped(self._virtual) if virtual else self._real
        if at_hand:
            await answer(scope, receive, send)
        else:
            await answer({**scope, "extensions": {}}, replayed(body, receive), send)


def _model(body: bytes) -> str | None:
    try:
        return _DECODER.decode(body).model
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
