"""vLLM's ways to fail, as the errors of the engine contract. Texts are safe for clients: vLLM's own are sanitised."""

import json
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from tandem_engine.errors import CallError, EngineDead, InvalidRequest, NotFound, Overloaded, RequestTooLarge

DEAD: Final = "the engine has stopped"
FAILED: Final = "the engine failed to answer"

_EVENT: Final = 'data: {"error"'


def from_exception(error: BaseException) -> CallError:
    """What a call that raised `error` ends with. A CallError is returned as it is."""
    if isinstance(error, CallError):
        return error
    if isinstance(error, EngineDeadError):
        return EngineDead(DEAD)
    if isinstance(error, ValidationError):
        return from_validation(error)
    if isinstance(error, VLLMValidationError):
        return InvalidRequest(_plain(error.args[0]), param=error.parameter or "")
    return from_response(create_error_response(error))


def from_response(response: ErrorResponse) -> CallError:
    """VLLM's error object; its `code` is an HTTP status."""
    error = response.error
    status = error.code
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(error.message, param=error.param or "")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return RequestTooLarge(error.message)
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return Overloaded(error.message)
    if status == HTTPStatus.NOT_IMPLEMENTED or 400 <= status < 500:
        return InvalidRequest(error.message, param=error.param or "")
    return CallError(FAILED)


def from_event(event: str) -> CallError | None:
    """The error of an SSE event in which vLLM reports one; None where the event is part of an answer."""
    if not event.startswith(_EVENT):
        return None
    return from_response(ErrorResponse.model_validate(json.loads(event.removeprefix("data: "))))


def from_validation(error: ValidationError) -> InvalidRequest:
    """The first thing that is wrong, by the field's name: pydantic lists every branch of a union."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    place = [str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier()]
    param = ".".join(place)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, VLLMValidationError):
        return InvalidRequest(_plain(cause.args[0]), param=cause.parameter or param)
    message = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{param}: {message}" if param else message, param=param)


def _plain(text: object) -> str:
    return create_error_response(str(text)).error.message
