"""Why a call did not end well, as a tree of exceptions. Each has the code of the worker protocol.

Texts are safe for clients: they name what the client sent and may change, never paths, addresses or internals. What
belongs in a log is the exception's `__cause__`.
"""

from tandem_proto.tandem.v1 import worker_pb2 as pb


class CallError(Exception):
    """A call failed. `param` names the field of the request to blame; `type` is the API's own error type, if any."""

    code: "pb.ErrorCode.ValueType" = pb.INTERNAL

    def __init__(self, message: str, *, param: str = "", type: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.type = type


class InvalidRequest(CallError):
    """The request can't be served as it is: 400."""

    code = pb.INVALID_REQUEST


class NotFound(CallError):
    """The model or adapter is not served here: 404."""

    code = pb.NOT_FOUND


class RequestTooLarge(CallError):
    """The body is over the limit: 413."""

    code = pb.REQUEST_TOO_LARGE


class Overloaded(CallError):
    """No place is free, here and now: 429, or another worker."""

    code = pb.OVERLOADED


class Unavailable(CallError):
    """The worker starts, drains or has lost its engine: 503, or another worker."""

    code = pb.UNAVAILABLE


class EngineDead(Unavailable):
    """The engine has died and will not come back: only a restart of the process helps."""


class DeadlineExceeded(CallError):
    """The call's time is over: 504."""

    code = pb.DEADLINE_EXCEEDED


class KvMismatch(CallError):
    """The handle is of another prompt, model, version, layout, adapter or cache salt. An error, never an answer."""

    code = pb.KV_MISMATCH


class KvGone(CallError):
    """The lease has expired or was released."""

    code = pb.KV_GONE
