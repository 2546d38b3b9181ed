"""Failures to rehearse with, by the names of their models: one switch for them all (requirements EI-05, EI-08, C12).

Beside it stand models that tell their usage, for those who count tokens.
"""

from typing import Final

from tandem_api.anthropic.errors import error_type
from tandem_api.replies import Usage

from tandem_virtual.models import Ending, Failure, SequenceModel, Stage, StaticModel, Step
from tandem_virtual.registry import Registries

_WARNING: Final = "warning"
_CRITICAL: Final = "critical"
_SAID: Final = "These are the first words of an answer that will not come to its end."
_PAUSE: Final = 5.0


def failing_models() -> tuple[StaticModel, ...]:
    """The catalogue: one model for each failure."""
    return (
        _status(429, "rate limit", "too many requests: try again later", severity=_WARNING),
        _status(500, "server error", "the server failed on purpose", severity=_CRITICAL),
        _stream("midstream-close", "connection lost", Ending.CLOSE, "The connection is cut after an event."),
        _stream("midstream-event", "server error", Ending.EVENT, "An error event comes in the place of the rest."),
        _stream("midstream-cleaneof", "truncation", Ending.CLEAN, "The stream ends without its terminal event."),
        _status(401, "authentication", "this key is not valid here", id="virtual-fail-auth-401", retryable=False),
        _status(502, "bad gateway", "the server behind this one failed on purpose", severity=_CRITICAL),
        _status(503, "overload", "overloaded: try again later", severity=_WARNING),
        _status(400, "invalid request", "this request is refused on purpose", retryable=False),
        _stream("timeout", "timeout", Ending.CLOSE, "Falls silent after two events.", after=2, pause=_PAUSE),
    )


def register_failures(registries: Registries) -> None:
    """Adds the failure catalogue, and the sequence that fails every third time, to both registries."""
    for model in failing_models():
        registries.register(model)
    registries.register(
        SequenceModel(
            id="virtual-sequence-429",
            description="Answers twice, then fails with 429, and so on.",
            content="This request came through; every third one meets a rate limit.",
            steps=(Step(repeat=2), Step(status=429, message="too many requests: try again later")),
            delay=0.05,
        )
    )


def register_usage_fixtures(registries: Registries) -> None:
    """Adds models that tell usage of every kind in each stream. Never among the defaults."""
    for id, usage in {
        "virtual-usage": Usage(120, 30),
        "virtual-usage-cached": Usage(1200, 30, cached=1000, cache_write=100),
        "virtual-usage-reasoning": Usage(120, 300, reasoning=270),
    }.items():
        content = "This answer tells what it has used."
        registries.register(StaticModel(id=id, description="Tells fixed usage.", content=content, usage=usage))


def _status(
    status: int, category: str, message: str, *, id: str = "", retryable: bool = True, severity: str = "error"
) -> StaticModel:
    failure = Failure(
        status=status,
        type=error_type(status),
        message=message,
        category=category,
        retryable=retryable,
        severity=severity,
    )
    return StaticModel(
        id=id or f"virtual-fail-{status}", description=f"Answers every request with {status}.", failure=failure
    )


def _stream(
    kind: str, category: str, ending: Ending, description: str, *, after: int = 1, pause: float = 0.0
) -> StaticModel:
    failure = Failure(
        stage=Stage.MID_STREAM,
        type=error_type(500),
        message="the stream failed on purpose",
        ending=ending,
        after=after,
        pause=pause,
        category=category,
    )
    return StaticModel(id=f"virtual-fail-{kind}", description=description, content=_SAID, failure=failure)
