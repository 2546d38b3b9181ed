"""The engine of a version whose answers are a virtual model's: a call takes the whole way of any other.

What the model decides is carried out as far as a worker can: a failure before the first byte fails the call, one in
the midst of a stream ends it with an error, and a connection that the model would cut is such an error, too.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Final, Self

from tandem_api.inference_service.virtual_model import VirtualModelEngineSpec
from tandem_api.openai.answers import JSON_TYPE, STREAM_TYPE
from tandem_api.openai.chat_replies import FINISH_REASONS
from tandem_api.replies import Reply as Said
from tandem_api.surfaces import Chat, Messages, Responses, Surface
from tandem_api.virtual_models import as_declared
from tandem_api.worker import WorkerConfig
from tandem_proto.protocol import PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_virtual.answering import Answering
from tandem_virtual.building import build
from tandem_virtual.catalogue import register_failures
from tandem_virtual.defaults import register_defaults
from tandem_virtual.models import VirtualModel
from tandem_virtual.outcomes import Dropped, Forwarded, Lost, Streamed, Whole, stream_of
from tandem_virtual.registry import Protocol, Registries

from tandem_engine.engine import Call, Counters, Outcome, Reply, say_json
from tandem_engine.errors import CallError, InvalidRequest
from tandem_engine.virtual_model.failures import as_error
from tandem_engine.without_kv import WithoutKv, facts_without_kv

SLOTS: Final = 4096
"""Calls at once: they wait, and compute nothing."""
_SURFACES: Final[Mapping["pb.Api.ValueType", Surface]] = {
    pb.API_CHAT_COMPLETIONS: Chat(),
    pb.API_MESSAGES: Messages(),
    pb.API_COUNT_TOKENS: Messages(),
    pb.API_RESPONSES: Responses(),
}
_CUT: Final = "this virtual model breaks its answer off on purpose"


class VirtualModelEngine(WithoutKv):
    """An `Engine` of a decode worker: there is no KV to compute.

    Args:
        spec: the model.
        model: the name that clients use.
        sleep: waits some seconds.
        now: Unix seconds.
    """

    def __init__(
        self,
        spec: VirtualModelEngineSpec,
        model: str,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._models = {protocol: _Named(model, _model(spec, model, protocol)) for protocol in Protocol}
        self._answering = Answering(now, lambda: secrets.token_hex(12))
        self._sleep = sleep
        self._running = 0
        self.facts = facts_without_kv("virtualModel", SLOTS)

    @classmethod
    def from_config(cls, config: WorkerConfig) -> Self:
        """The engine that a worker's configuration describes."""
        if config.role != "decode":
            raise ValueError("a virtual model is an engine of decode workers: there is no KV to compute")
        assert config.engine.virtual_model is not None
        return cls(config.engine.virtual_model, config.model)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Nothing was started."""

    async def counters(self) -> Counters:
        return self.load()

    def load(self) -> Counters:
        return Counters(running=self._running)

    def totals(self) -> Mapping[str, int]:
        return {}

    async def check(self) -> None:
        """It can always answer."""

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        """See `Engine.generate`."""
        surface = _SURFACES.get(call.api)
        if surface is None:
            raise InvalidRequest("a virtual model answers chat completions, Responses and Messages")
        self._running += 1
        try:
            return await self._generate(surface, call, reply)
        finally:
            self._running -= 1

    async def _generate(self, surface: Surface, call: Call, reply: Reply) -> Outcome:
        models = self._models[Protocol.ANTHROPIC if isinstance(surface, Messages) else Protocol.OPENAI]
        if call.api == pb.API_COUNT_TOKENS:
            counted = self._answering.count(models, call.body)
            _refuse(counted)
            say_json(reply, counted.body)
            return Outcome(pb.Usage())
        outcome = self._answering.answer(surface, models, call.body, response_id=call.response_id)
        match outcome:
            case Whole():
                await self._sleep(outcome.delay)
                _refuse(outcome)
                reply.started(200, JSON_TYPE, len(outcome.body), pb.KvReport())
                for at in range(0, len(outcome.body), PIECE_BYTES):
                    reply.data(outcome.body[at : at + PIECE_BYTES])
                return _ended(outcome.reply)
            case Streamed():
                return await self._stream(outcome, reply)
            case Dropped():
                await self._sleep(outcome.delay)
                raise CallError(_CUT)
            case Forwarded():
                raise InvalidRequest("a virtual model in a worker forwards to nobody")

    async def _stream(self, streamed: Streamed, reply: Reply) -> Outcome:
        reply.started(200, STREAM_TYPE, 0, pb.KvReport())
        try:
            async for events in stream_of(streamed, self._sleep):
                if streamed.failed and events is streamed.closing:
                    raise CallError(streamed.failed)  # whoever relays the stream writes the error's event
                reply.data(events)
        except Lost:
            raise CallError(_CUT) from None
        return _ended(streamed.reply)


class _Named:
    """The one model, by the name that clients use."""

    def __init__(self, name: str, model: VirtualModel) -> None:
        self._name = name
        self._model = model

    def get(self, id: str) -> VirtualModel | None:
        return self._model if id == self._name else None


def _model(spec: VirtualModelEngineSpec, name: str, protocol: Protocol) -> VirtualModel:
    """Of its own for each protocol, as anywhere.

    Raises:
        ValueError: there is none of that name.
    """
    if spec.use is None:
        return build(as_declared(spec, name))
    registries = Registries()
    register_defaults(registries)
    register_failures(registries)
    model = registries.find(spec.use, protocol)
    if model is None:
        raise ValueError(f"there is no virtual model {spec.use}")
    return model


def _refuse(whole: Whole) -> None:
    """Raises what an error response says."""
    if whole.status != 200:
        raise as_error(whole.status, whole.body)


def _ended(said: Said | None) -> Outcome:
    if said is None:
        return Outcome(pb.Usage())
    usage = pb.Usage(
        prompt_tokens=said.usage.prompt,
        completion_tokens=said.usage.completion,
        cached_tokens=said.usage.cached,
        computed_tokens=max(said.usage.prompt - said.usage.cached, 0),
    )
    return Outcome(usage, finish_reason=FINISH_REASONS[said.finish])
