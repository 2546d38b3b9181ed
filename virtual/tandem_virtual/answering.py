"""From a request's bytes to what is to happen: one way for all surfaces, all types of models, streamed or whole."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from tandem_api.conversations import Ask
from tandem_api.openai.requests import RequestError
from tandem_api.replies import Reply, Thinking, Usage
from tandem_api.surfaces import Messages, Surface
from tandem_api.surfaces.messages import count_body

from tandem_virtual.chunking import chunk_delay
from tandem_virtual.estimating import estimate, estimate_prompt
from tandem_virtual.limiting import limited
from tandem_virtual.models import Ending, Failure, Forwards, Says, Stage, VirtualModel
from tandem_virtual.outcomes import Dropped, Forwarded, Outcome, Streamed, Whole

_log = logging.getLogger(__name__)

_ID_PREFIXES: Final = {"chat": "chatcmpl-virtual-", "responses": "resp-virtual-", "messages": "msg_virtual_"}
_RETRY_AFTER: Final = (("retry-after", "1"),)
_MAX_HOPS: Final = 8


class Models(Protocol):
    """Where virtual models are found: a registry, or both as one."""

    def get(self, id: str) -> VirtualModel | None: ...


class Answering:
    """Answers requests by virtual models.

    Args:
        now: Unix seconds.
        key: a token for each call, of letters and digits, that no other answer has; ids are made of it.
    """

    def __init__(self, now: Callable[[], float], key: Callable[[], str]) -> None:
        self._now = now
        self._key = key

    def answer(
        self, surface: Surface, models: Models, body: bytes, via: tuple[str, ...] = (), response_id: str = ""
    ) -> Outcome:
        """What is to happen for a request; bad ones have an answer, too.

        Args:
            surface: the API that it came by.
            models: those that may answer.
            body: the request.
            via: proxies that it came by already.
            response_id: the answer's "id"; empty: it is made.
        """
        try:
            ask = surface.read(body)
        except RequestError as error:
            return Whole(status=400, body=surface.error(400, error.message, param=error.param))
        model = models.get(ask.model)
        if model is None:
            return unknown(surface, ask.model)
        try:
            return self._carry(surface, models, model, ask, via, response_id)
        except Exception:
            # A transform of the user's own, say. What went wrong is for the log.
            _log.exception("the virtual model %s failed", model.id)
            return Whole(status=500, body=surface.error(500, f"the virtual model {model.id} failed"))

    def count(self, models: Models, body: bytes) -> Whole:
        """The answer to POST /v1/messages/count_tokens."""
        surface = Messages()
        try:
            ask = surface.read_count(body)
        except RequestError as error:
            return Whole(status=400, body=surface.error(400, error.message, param=error.param))
        if models.get(ask.model) is None:
            return unknown(surface, ask.model)
        return Whole(body=count_body(estimate_prompt(ask)))

    def _carry(
        self,
        surface: Surface,
        models: Models,
        model: VirtualModel,
        ask: Ask,
        via: tuple[str, ...],
        response_id: str,
    ) -> Outcome:
        act = model.act(ask)
        match act:
            case Says():
                return self._say(surface, model, ask, act, response_id)
            case Failure():
                return refused(surface, act, model.delay)
            case Forwards():
                way = (*via, model.id)
                if act.delegate in way or len(way) > _MAX_HOPS:
                    text = f"virtual models forward to each other in a circle: {' -> '.join((*way, act.delegate))}"
                    return Whole(status=500, body=surface.error(500, text))
                forwarded = surface.rewritten(ask, act.delegate, act.turns)
                if models.get(act.delegate) is not None:
                    outcome = self.answer(surface, models, forwarded, way, response_id)
                    return replace(outcome, delay=outcome.delay + model.delay)
                return Forwarded(
                    surface=surface.name,
                    model=act.delegate,
                    body=forwarded,
                    stream=ask.stream,
                    via=way,
                    delay=model.delay,
                )

    def _say(self, surface: Surface, model: VirtualModel, ask: Ask, says: Says, response_id: str) -> Outcome:
        within = limited(says, ask)
        says = within.says
        reply = Reply(
            says.blocks,
            _usage(model, ask, says),
            says.finish,
            within.stop_sequence,
            model.role,
            tells_usage=model.usage is not None,
        )
        id = response_id or _ID_PREFIXES[surface.name] + self._key()
        encoder = surface.encoder(ask, id, int(self._now()))
        failure = says.failure
        if not ask.stream:
            # A whole answer has no middle to fail in: what cuts a stream leaves nothing of it.
            if failure is None:
                return Whole(body=encoder.body(reply), delay=model.delay, reply=reply)
            if failure.ending is Ending.EVENT:
                return refused(surface, failure, model.delay)
            return Dropped(delay=model.delay + failure.pause)
        events = encoder.events(reply, says.pieces)
        delay = chunk_delay(model.delay, len(events.chunks))
        if failure is None:
            return Streamed(
                opening=events.opening, chunks=events.chunks, chunk_delay=delay, closing=events.closing, reply=reply
            )
        by_event = failure.ending is Ending.EVENT
        return Streamed(
            opening=events.opening,
            chunks=events.chunks[: max(failure.after, 1)],
            chunk_delay=delay,
            pause=failure.pause,
            closing=encoder.failure(failure.message, failure.type or "api_error") if by_event else b"",
            lost=failure.ending is Ending.CLOSE,
            failed=failure.message if by_event else "",
            reply=reply,
        )


def unknown(surface: Surface, model: str) -> Whole:
    """There is no such model here."""
    message = f"The model `{model}` does not exist"
    return Whole(status=404, body=surface.error(404, message, param="model", code="model_not_found"))


def refused(surface: Surface, failure: Failure, delay: float) -> Whole:
    """A failure before the first byte."""
    return Whole(
        status=failure.status,
        body=surface.error(failure.status, failure.message, type=failure.type),
        headers=_RETRY_AFTER if failure.status in (429, 503, 529) else (),
        delay=delay + (failure.pause if failure.stage is Stage.PRE_CONTENT else 0.0),
    )


def _usage(model: VirtualModel, ask: Ask, says: Says) -> Usage:
    told = model.usage
    reasoning = sum(estimate(block.text) for block in says.blocks if isinstance(block, Thinking))
    if told is None:
        return Usage(estimate_prompt(ask), says.completion, reasoning=min(reasoning, says.completion))
    return Usage(
        told.prompt or estimate_prompt(ask),
        told.completion or says.completion,
        told.cached,
        told.cache_write,
        told.reasoning,
    )
