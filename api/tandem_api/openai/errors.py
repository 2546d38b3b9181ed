"""OpenAI's error objects, and which one a failed call becomes.

Everything of Tandem that answers a client in OpenAI's shape takes its errors from here, so that status, `type` and
`code` of a failure are the same wherever it happened. Kinds have the names of the worker protocol's `ErrorCode`.
"""

import json
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a client sees of one kind of failure: the HTTP status, and the error object's `type` and `code`."""

    status: int
    type: str
    code: str | None


_INTERNAL: Final = ErrorKind(500, "server_error", "internal_error")

ERROR_KINDS: Final[dict[str, ErrorKind]] = {
    "INVALID_REQUEST": ErrorKind(400, "invalid_request_error", None),
    "NOT_FOUND": ErrorKind(404, "invalid_request_error", "model_not_found"),
    "REQUEST_TOO_LARGE": ErrorKind(413, "invalid_request_error", "request_too_large"),
    "OVERLOADED": ErrorKind(429, "rate_limit_error", "overloaded"),
    "UNAVAILABLE": ErrorKind(503, "server_error", "unavailable"),
    "DEADLINE_EXCEEDED": ErrorKind(504, "server_error", "deadline_exceeded"),
    "CANCELLED": ErrorKind(499, "server_error", "cancelled"),
    "INTERNAL": _INTERNAL,
    "KV_MISMATCH": ErrorKind(500, "server_error", "kv_mismatch"),
    "KV_GONE": ErrorKind(503, "server_error", "kv_gone"),
}
"""By the name of the worker protocol's ErrorCode. 499 is for logs: the client has gone."""


def error_kind(name: str) -> ErrorKind:
    """The kind for an ErrorCode's name; a name that this release does not know is read as INTERNAL."""
    return ERROR_KINDS.get(name, _INTERNAL)


def error_object(
    message: str, *, type: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, str | None]:
    """The object under `error`: all four members are always there, as OpenAI's clients expect."""
    return {"message": message, "type": type, "param": param or None, "code": code or None}


def error_body(
    message: str, *, type: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> bytes:
    """The JSON body of an error response: `{"error": {"message", "type", "param", "code"}}`."""
    return json.dumps({"error": error_object(message, type=type, param=param, code=code)}).encode()


def failure_body(name: str, message: str, *, param: str | None = None, type: str = "") -> tuple[int, bytes]:
    """HTTP status and JSON body of a failed call: `name` is its ErrorCode's; `type` goes before the kind's."""
    kind = error_kind(name)
    return kind.status, error_body(message, type=type or kind.type, param=param, code=kind.code)


def error_event(
    message: str, *, type: str = "server_error", param: str | None = None, code: str | None = None
) -> bytes:
    """The last bytes of a stream that failed after it had begun: an error event, then `[DONE]`."""
    return b"data: " + error_body(message, type=type, param=param, code=code) + b"\n\ndata: [DONE]\n\n"


def failure_event(name: str, message: str, *, param: str | None = None, type: str = "") -> bytes:
    """`error_event` of a failed call: `name` is its ErrorCode's; `type` goes before the kind's."""
    kind = error_kind(name)
    return error_event(message, type=type or kind.type, param=param, code=kind.code)
