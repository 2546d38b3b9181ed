"""One trace for each request: a server span with its children queue, prefill and decode, and what workers add to it.

Exported where OTLP is configured. Otherwise nothing is made at all; the client's own trace context goes on to the
workers as it came. Names follow OpenTelemetry's semantic conventions for generative AI.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self

Context = tuple[str, str]
"""W3C trace context: traceparent and tracestate."""
Attributes = Callable[[], Mapping[str, str | int | float]]
"""Put together only where somebody reads them."""

NO_CONTEXT: Final = ("", "")

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_MAX_TRACESTATE: Final = 512


class Span(AbstractContextManager["Span"], Protocol):
    """A part of a request's work; ends with its context."""

    @property
    def context(self) -> Context:
        """What a worker is told, so that its spans become children of this one."""

    def child(self, name: str) -> "Span": ...

    def note(self, attributes: Attributes) -> None: ...

    def fail(self, reason: str) -> None: ...


class Tracer(Protocol):
    """Begins the span of a request, whose headers may hold the client's trace context."""

    def serve(self, name: str, headers: Mapping[bytes, bytes], attributes: Attributes) -> Span: ...

    def close(self) -> None:
        """Exports what is left."""


def incoming(headers: Mapping[bytes, bytes]) -> Context:
    """A client's trace context; empty where it has none or an invalid one."""
    given = headers.get(b"traceparent")
    if given is None or not _TRACEPARENT.match(parent := given.decode("latin-1")):
        return NO_CONTEXT
    state = headers.get(b"tracestate", b"").decode("latin-1")
    return (parent, state if len(state) <= _MAX_TRACESTATE else "")


class _Through:
    """Spans that are none: the client's context goes through."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def child(self, name: str) -> Span:
        return self

    def note(self, attributes: Attributes) -> None:
        return None

    def fail(self, reason: str) -> None:
        return None


NOWHERE: Final = _Through(NO_CONTEXT)


class NoTracer:
    """Where no OTLP is configured."""

    def serve(self, name: str, headers: Mapping[bytes, bytes], attributes: Attributes) -> Span:
        context = incoming(headers)
        return NOWHERE if context is NO_CONTEXT else _Through(context)

    def close(self) -> None:
        return None
