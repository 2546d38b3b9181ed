"""Virtual models as Python objects: the same answers as over HTTP, without a server.

    models = InProcess.with_defaults()
    answer = await models.chat.create(model="virtual-gpt-4", messages=[{"role": "user", "content": "Hello"}])
    async for event in models.messages.stream(model="virtual-claude-3", messages=[...]):
        ...

Answers and events are the JSON of the API, as dicts. A failure is a `Refused` (what would be an error response) or a
`Lost` (what would be a cut connection).
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from tandem_api.surfaces import Chat, Messages, Responses, Surface

from tandem_virtual.answering import Answering, unknown
from tandem_virtual.defaults import register_defaults
from tandem_virtual.outcomes import Dropped, Forwarded, Lost, Outcome, Sleep, Streamed, Whole, stream_of
from tandem_virtual.registry import Registries, Registry


class Refused(Exception):
    """An error response: its HTTP status, and its body as a dict."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}: {body['error']['message']}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Relayed:
    """A delegate's response. `chunks` is its body, which is a stream of events where the request asked for one."""

    status: int
    chunks: AsyncIterator[bytes]


class Delegate(Protocol):
    """Who answers what proxies forward to models that are no virtual ones."""

    async def forward(self, request: Forwarded) -> Relayed: ...


class Nobody:
    """Knows no other models."""

    async def forward(self, request: Forwarded) -> Relayed:
        surface = {surface.name: surface for surface in (Chat(), Responses(), Messages())}[request.surface]
        refusal = unknown(surface, request.model)
        raise Refused(refusal.status, json.loads(refusal.body))


class Api:
    """One API of virtual models; made by `InProcess`."""

    def __init__(
        self, surface: Surface, models: Registry, answering: Answering, sleep: Sleep, delegate: Delegate
    ) -> None:
        self._surface = surface
        self._models = models
        self._answering = answering
        self._sleep = sleep
        self._delegate = delegate

    async def create(self, **request: Any) -> dict[str, Any]:
        """The whole answer to a request, which has the members of the API's JSON.

        Raises:
            Refused: the model does not exist, the request is wrong, or the model fails on purpose.
            Lost: the model cuts connections.
        """
        outcome = self._outcome(request | {"stream": False})
        match outcome:
            case Whole():
                await self._sleep(outcome.delay)
                return _accepted(outcome.status, outcome.body)
            case Forwarded():
                relayed = await self._forward(outcome)
                return _accepted(relayed.status, b"".join([chunk async for chunk in relayed.chunks]))
            case Dropped():
                await self._sleep(outcome.delay)
                raise Lost
            case Streamed():
                raise AssertionError("nobody asked for a stream")

    async def stream(self, **request: Any) -> AsyncIterator[dict[str, Any]]:
        """The events of an answer; `[DONE]` is left out. Raises as `create` does, `Lost` after the last event too."""
        outcome = self._outcome(request | {"stream": True})
        match outcome:
            case Streamed():
                chunks = stream_of(outcome, self._sleep)
            case Forwarded():
                relayed = await self._forward(outcome)
                if relayed.status != 200:
                    _accepted(relayed.status, b"".join([chunk async for chunk in relayed.chunks]))
                chunks = relayed.chunks
            case Whole():
                await self._sleep(outcome.delay)
                _accepted(outcome.status, outcome.body)
                raise AssertionError("a stream was asked for")
            case Dropped():
                await self._sleep(outcome.delay)
                raise Lost
        async for event in _events(chunks):
            yield event

    def _outcome(self, request: dict[str, Any]) -> Outcome:
        return self._answering.answer(self._surface, self._models, json.dumps(request).encode())

    async def _forward(self, forwarded: Forwarded) -> Relayed:
        await self._sleep(forwarded.delay)
        return await self._delegate.forward(forwarded)


class InProcess:
    """Virtual models, ready to be asked.

    Args:
        registries: which models there are; may be changed at any time.
        delegate: answers what proxies forward to other models.
        sleep: waits some seconds.
        now: Unix seconds.
        key: a token of letters and digits, another one each time.
    """

    def __init__(
        self,
        registries: Registries,
        *,
        delegate: Delegate | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = time.time,
        key: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self.registries = registries
        answering = Answering(now, key)
        delegate = delegate or Nobody()
        self.chat = Api(Chat(), registries.openai, answering, sleep, delegate)
        self.responses = Api(Responses(), registries.openai, answering, sleep, delegate)
        self.messages = Api(Messages(), registries.anthropic, answering, sleep, delegate)

    @classmethod
    def with_defaults(cls, **given: Any) -> Self:
        """With the default models. Arguments as of the class, but `registries`."""
        registries = Registries()
        register_defaults(registries)
        return cls(registries, **given)


def _accepted(status: int, body: bytes) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(body)
    if status != 200:
        raise Refused(status, members)
    return members


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    held = b""
    async for chunk in chunks:
        *frames, held = (held + chunk).split(b"\n\n")
        for frame in frames:
            data = b"".join(line.removeprefix(b"data: ") for line in frame.split(b"\n") if line.startswith(b"data: "))
            if data and data != b"[DONE]":
                yield json.loads(data)
