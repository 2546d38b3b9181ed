"""Responses on vLLM's own class for them, without state.

Where tools are given, a whole answer is what its stream ends in: vLLM reads a whole text for calls in another way,
which makes text of a call that was cut.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request as HttpRequest
from tandem_api.openai.answers import DONE, compact
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.v1.engine.exceptions import EngineDeadError

from tandem_engine.errors import CallError
from tandem_engine.response_stream import Event, ResponseStream, stateless
from tandem_engine.vllm import failures


async def render(serving: Any, request: ResponsesRequest) -> Any:
    """The prompt (EngineInput) of a request, or vLLM's ErrorResponse. `serving` is OpenAIServingResponses."""
    if error := await serving._check_model(request):
        return error
    rendered = await serving._render_resolved_response_inputs(request, None)
    return rendered if isinstance(rendered, ErrorResponse) else rendered.engine_input


async def create(
    serving: Any, request: ResponsesRequest, http: HttpRequest, response_id: str
) -> AsyncGenerator[str, None] | bytes | ErrorResponse:
    """SSE events for a stream, else the body of the answer.

    Args:
        serving: OpenAIServingResponses.
        request: as validated.
        http: what vLLM reads of the HTTP request.
        response_id: the answer's "id".
    """
    gathers = bool(request.tools) and not request.stream
    asked = request.model_copy(update={"request_id": response_id, "stream": bool(request.stream) or gathers})
    answer = await serving.create_responses(asked, http)
    if isinstance(answer, ErrorResponse):
        return answer
    if not isinstance(answer, AsyncGenerator):
        return compact(stateless(answer.model_dump(mode="json", by_alias=True), response_id)).encode()
    events = _events(answer, response_id)
    if not gathers:
        return _written(events)
    response: Event = {}
    async with aclosing(events):
        async for event in events:
            response = event.get("response", response)
    return compact(response).encode()


async def _written(events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            yield f"event: {event['type']}\ndata: {compact(event)}\n\n"
    yield DONE.decode()


async def _events(events: AsyncGenerator[Any, None], response_id: str) -> AsyncGenerator[Event, None]:
    stream = ResponseStream(response_id)
    async with aclosing(events):
        try:
            async for event in events:
                yield stream.feed(json.loads(event.model_dump_json(by_alias=True)))
        except EngineDeadError as dead:
            raise failures.from_exception(dead) from dead
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            # What vLLM stumbles over once it has begun is no fault of the request, whatever it calls it.
            raise CallError(failures.FAILED) from error
    if not stream.complete:
        raise CallError(failures.FAILED)
