"""Virtual models as what computes, and the parts that they are declared of anywhere (requirements 1.2, section 4)."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from tandem_api.inference_service.base import Spec, Text, cel, count, invalid
from tandem_api.inference_service.quantities import Duration

FinishReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", "tool_use", "refusal"
]
"""In OpenAI's or Anthropic's words."""
Count = Annotated[int, Field(ge=0, le=10**9)]
HttpError = Annotated[int, Field(ge=400, le=599)]
Words = Annotated[str, Field(max_length=65536)]


class ToolCallSpec(Spec):
    """A call of a tool."""

    name: str = Field(min_length=1, max_length=128)
    """The function's name."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Its arguments; the text beside the call is the one named `message`, else `question`."""


_PARTS: Final = "cached and cacheWrite are parts of prompt: together they must not be more"
_REASONED: Final = "reasoning is a part of completion: it must not be more"


class UsageSpec(Spec):
    """Counts of tokens to report. What is 0 is estimated, or not told."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.cached + self.cacheWrite <= self.prompt", _PARTS),
            ("self.reasoning <= self.completion", _REASONED),
        )
    )

    prompt: Count = 0
    """Tokens of the request, cached ones among them."""
    completion: Count = 0
    """Tokens of the answer, those of reasoning among them."""
    cached: Count = 0
    """Prompt tokens that were read from a cache."""
    cache_write: Count = 0
    """Prompt tokens that were written to a cache."""
    reasoning: Count = 0
    """Completion tokens that were thought."""

    @model_validator(mode="after")
    def _parts_are_no_more_than_wholes(self) -> "UsageSpec":
        if self.cached + self.cache_write > self.prompt:
            raise invalid(_PARTS)
        if self.reasoning > self.completion:
            raise invalid(_REASONED)
        return self


class FailureSpec(Spec):
    """How a model fails."""

    stage: Literal["pre-content", "mid-stream"] = "pre-content"
    """Before the first byte, or after some of a stream's events."""
    status: HttpError = 500
    """HTTP status, where there is no stream to fail in."""
    type: Text = ""
    """The error's type; by default the one that goes with the status."""
    message: Text = Field("this virtual model fails on purpose", min_length=1)
    """The error's message."""
    ending: Literal["close", "event", "clean"] = "close"
    """How a stream fails: cut, by an error event, or by an end without terminal event."""
    after: int = Field(1, ge=1)
    """Chunks of content that come first."""
    pause: Duration = 0.0
    """Silence before it fails."""


_STATUS: Final = "status must be 200, or an error from 400 to 599"


class StepSpec(Spec):
    """What some requests get."""

    model_config = ConfigDict(
        json_schema_extra=cel(("self.status in [0, 200] || (self.status >= 400 && self.status <= 599)", _STATUS))
    )

    status: int = 200
    """200 (or 0) for an answer, else the status of an error."""
    repeat: int = Field(1, ge=1)
    """Requests that get it."""
    content: Words | None = None
    """What is said; by default the model's content."""
    type: Text = ""
    """The error's type; by default the one that goes with the status."""
    message: Text = ""
    """The error's message."""

    @model_validator(mode="after")
    def _is_a_status(self) -> "StepSpec":
        if self.status not in (0, 200) and not 400 <= self.status <= 599:
            raise invalid(f"status is {self.status}: it must be 200, or an error from 400 to 599")
        return self


class SequenceSpec(Spec):
    """Steps that requests take, one each."""

    steps: Annotated[tuple[StepSpec, ...], Field(max_length=256)] = ()
    """In order; without any, every request succeeds."""
    when_used_up: Literal["loop", "clamp", "fail"] = "loop"
    """Begin again, stay at the last step, or answer 410."""


UseName = Literal[
    "ask-confirmation",
    "ask-user-question",
    "echo-model",
    "virtual-claude-3",
    "virtual-fail-400",
    "virtual-fail-429",
    "virtual-fail-500",
    "virtual-fail-502",
    "virtual-fail-503",
    "virtual-fail-auth-401",
    "virtual-fail-midstream-cleaneof",
    "virtual-fail-midstream-close",
    "virtual-fail-midstream-event",
    "virtual-fail-timeout",
    "virtual-gpt-4",
    "virtual-sequence-429",
    "web-search-example",
]
"""The models of every installation that answer by themselves."""

_ALONE: Final = "must have either use, or what the model says and how it fails, and not both"
_ONE_WAY: Final = "must have at most one of toolCall, sequence and failure"
_WHOLE: Final = "must have content or streamChunks, not both: the chunks are the content"
_TOLD: Final = (
    "content",
    "thinking",
    "delay",
    "streamChunks",
    "finishReason",
    "toolCall",
    "usage",
    "failure",
    "sequence",
)
_CHUNKED: Final = "must have streamChunks only where it has no toolCall and no sequence"
_THOUGHT: Final = "must have thinking and finishReason only where it has no sequence"


class VirtualModelEngineSpec(Spec):
    """A virtual model that answers for a version: one that every installation has, or one of your own words."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.use) "
                f"? {' && '.join(f'!has(self.{name})' for name in _TOLD)} "
                f": ({' || '.join(f'has(self.{name})' for name in _TOLD)})",
                _ALONE,
            ),
            (f"{count('toolCall', 'sequence', 'failure')} <= 1", _ONE_WAY),
            ("!(has(self.content) && has(self.streamChunks))", _WHOLE),
            ("!has(self.streamChunks) || (!has(self.toolCall) && !has(self.sequence))", _CHUNKED),
            ("!has(self.sequence) || (!has(self.thinking) && !has(self.finishReason))", _THOUGHT),
        )
    )

    use: UseName | None = None
    """The name of a model that every installation has, failures among them."""
    content: Words | None = None
    """What it says; beside a call of a tool, the call's display text stands in for it."""
    thinking: Words | None = None
    """What it says that it thinks, before its content."""
    delay: Duration | None = None
    """What an answer takes, whole or streamed; absent: no time, and 50 ms for each chunk of a stream."""
    stream_chunks: Annotated[tuple[Words, ...], Field(min_length=1, max_length=1024)] | None = None
    """The content, as it is to be streamed."""
    finish_reason: FinishReason | None = None
    """Why it ends, in OpenAI's or Anthropic's words; by default what goes with what it does."""
    tool_call: Annotated[tuple[ToolCallSpec, ...], Field(min_length=1, max_length=64)] | None = None
    """The calls it makes."""
    usage: UsageSpec | None = None
    """Tokens to report in place of estimates."""
    failure: FailureSpec | None = None
    """How it fails."""
    sequence: SequenceSpec | None = None
    """What its requests get, in turn, counted in each worker by itself."""

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        given = [name for name, value in self if value is not None]
        if not given or (self.use is not None and len(given) > 1):
            raise invalid(_ALONE)
        if sum(way is not None for way in (self.tool_call, self.sequence, self.failure)) > 1:
            raise invalid(_ONE_WAY)
        if self.content is not None and self.stream_chunks is not None:
            raise invalid(_WHOLE)
        if self.stream_chunks is not None and (self.tool_call or self.sequence):
            raise invalid(_CHUNKED)
        if self.sequence is not None and (self.thinking is not None or self.finish_reason is not None):
            raise invalid(_THOUGHT)
        return self
