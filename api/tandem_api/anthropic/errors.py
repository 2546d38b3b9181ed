"""Anthropic's error objects. Statuses are those of `tandem_api.openai.errors`; a type follows from the status."""

import json
from typing import Final

from tandem_api.openai.errors import error_kind

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """The type for an HTTP status (requirements EI-07); what is not listed is an `api_error`."""
    return _TYPES.get(status, "api_error")


def error_body(message: str, *, type: str, request_id: str = "") -> bytes:
    """The JSON body of an error response: `{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    body: dict[str, object] = {"type": "error", "error": {"type": type, "message": message}}
    return json.dumps(body | {"request_id": request_id} if request_id else body).encode()


def error_event(message: str, *, type: str, request_id: str = "") -> bytes:
    """The last bytes of a stream that failed after it had begun."""
    return b"event: error\ndata: " + error_body(message, type=type, request_id=request_id) + b"\n\n"


def failure_body(name: str, message: str, *, request_id: str = "") -> tuple[int, bytes]:
    """HTTP status and JSON body of a failed call; `name` is its ErrorCode's in the worker protocol."""
    status = error_kind(name).status
    return status, error_body(message, type=error_type(status), request_id=request_id)


def failure_event(name: str, message: str, *, request_id: str = "") -> bytes:
    """`error_event` of a failed call; `name` is its ErrorCode's in the worker protocol."""
    return error_event(message, type=error_type(error_kind(name).status), request_id=request_id)
