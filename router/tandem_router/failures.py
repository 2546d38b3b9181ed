"""Why a request did not end well, with the codes of the worker protocol, whoever found it: a worker or this router."""

from typing import Final, Self

from tandem_proto.tandem.v1 import worker_pb2 as pb

RETRY_SECONDS: Final = {pb.OVERLOADED: 1, pb.UNAVAILABLE: 5}
"""What Retry-After says: a place comes free soon, a worker starts later."""

BLAMELESS: Final = frozenset(
    {pb.INVALID_REQUEST, pb.NOT_FOUND, pb.REQUEST_TOO_LARGE, pb.OVERLOADED, pb.DEADLINE_EXCEEDED, pb.KV_GONE}
)
"""Codes that say nothing about a worker's health: a client's own mistakes never eject a worker."""

FINAL: Final = frozenset({pb.INVALID_REQUEST, pb.NOT_FOUND, pb.REQUEST_TOO_LARGE, pb.DEADLINE_EXCEEDED, pb.KV_MISMATCH})
"""Codes that another worker would not answer better."""


class CallFailed(Exception):
    """A call failed. `message` is safe for clients; `reason` is a label of few values, for metrics and logs."""

    def __init__(
        self, code: "pb.ErrorCode.ValueType", message: str, *, reason: str = "", param: str = "", type: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or code_name(code).lower()
        self.param = param
        self.type = type

    def told(self) -> Self:
        """To be kept as a value: without the frames that it came through, which would keep it alive, and it them."""
        self.__context__ = None
        return self.with_traceback(None)

    @classmethod
    def of(cls, failed: pb.Failed) -> "CallFailed":
        """As a worker said it."""
        return cls(failed.code, failed.message, param=failed.param, type=failed.type)

    @property
    def retry_after(self) -> int | None:
        """Seconds for Retry-After; None where trying again would not help."""
        return RETRY_SECONDS.get(self.code)


_NAMES: Final = dict(zip(pb.ErrorCode.values(), pb.ErrorCode.keys(), strict=True))


def code_name(code: "pb.ErrorCode.ValueType") -> str:
    """INTERNAL where a worker of a later release says what this one doesn't know."""
    return _NAMES.get(code, "INTERNAL")
