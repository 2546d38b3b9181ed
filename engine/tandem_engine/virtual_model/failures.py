"""A virtual model's error responses as failures of a call: there are fewer kinds of these than HTTP has statuses."""

import json
from typing import Final

from tandem_engine.errors import (
    CallError,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestTooLarge,
    Unavailable,
)

_KINDS: Final = {
    404: NotFound,
    408: DeadlineExceeded,
    413: RequestTooLarge,
    429: Overloaded,
    500: CallError,
    504: DeadlineExceeded,
}


def as_error(status: int, body: bytes) -> CallError:
    """The nearest kind; other statuses from 400 are a request that is wrong, from 500 a worker that can't answer."""
    kind = _KINDS.get(status, InvalidRequest if status < 500 else Unavailable)
    error = json.loads(body)["error"]
    return kind(error["message"], param=error.get("param") or "", type=error["type"])
