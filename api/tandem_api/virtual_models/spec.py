"""The fields of a declared virtual model (requirements VM-16 to VM-20, section 4)."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from tandem_api.inference_service.base import Spec, invalid
from tandem_api.inference_service.quantities import Duration

ProtocolName = Literal["openai", "anthropic"]
TransformName = Literal[
    "compact-thinking", "compact-round-only", "compact-round-files", "claude-code-compact", "claude-code-strategy"
]
Count = Annotated[int, Field(ge=0, le=10**9)]
HttpError = Annotated[int, Field(ge=400, le=599)]

_OF_TYPES = {
    "thinking": ("static", "tool"),
    "finish_reason": ("static", "tool"),
    "stream_chunks": ("static",),
    "failure": ("static",),
    "tool_call": ("tool",),
    "delegate_model": ("proxy",),
    "transformer": ("proxy",),
    "sequence": ("sequence",),
}
"""Fields that only some types of models have."""


class ToolCallSpec(Spec):
    """A call of a tool."""

    name: str = Field(min_length=1, max_length=128)
    """The function's name."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Its arguments; the text beside the call is the one named `message`, else `question`."""


class UsageSpec(Spec):
    """Counts of tokens to report. What is 0 is estimated, or not told."""

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
            raise invalid("cached and cacheWrite are parts of prompt: together they must not be more")
        if self.reasoning > self.completion:
            raise invalid("reasoning is a part of completion: it must not be more")
        return self


class FailureSpec(Spec):
    """How a model fails."""

    stage: Literal["pre-content", "mid-stream"] = "pre-content"
    """Before the first byte, or after some of a stream's events."""
    status: HttpError = 500
    """HTTP status, where there is no stream to fail in."""
    type: str = ""
    """The error's type; by default the one that goes with the status."""
    message: str = Field("this virtual model fails on purpose", min_length=1)
    """The error's message."""
    ending: Literal["close", "event", "clean"] = "close"
    """How a stream fails: cut, by an error event, or by an end without terminal event."""
    after: int = Field(1, ge=1)
    """Chunks of content that come first."""
    pause: Duration = 0.0
    """Silence before it fails."""


class StepSpec(Spec):
    """What some requests get."""

    status: int = 200
    """200 (or 0) for an answer, else the status of an error."""
    repeat: int = Field(1, ge=1)
    """Requests that get it."""
    content: str | None = None
    """What is said; by default the model's content."""
    type: str = ""
    """The error's type; by default the one that goes with the status."""
    message: str = ""
    """The error's message."""

    @model_validator(mode="after")
    def _is_a_status(self) -> "StepSpec":
        if self.status not in (0, 200) and not 400 <= self.status <= 599:
            raise invalid(f"status is {self.status}: it must be 200, or an error from 400 to 599")
        return self


class SequenceSpec(Spec):
    """Steps that requests take, one each."""

    steps: tuple[StepSpec, ...] = ()
    """In order; without any, every request succeeds."""
    when_used_up: Literal["loop", "clamp", "fail"] = "loop"
    """Begin again, stay at the last step, or answer 410."""


def _one_or_several(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class VirtualModelSpec(Spec):
    """A virtual model."""

    id: str = Field(min_length=1, max_length=256)
    """What clients call it."""
    protocols: tuple[ProtocolName, ...] = Field(("openai", "anthropic"), min_length=1)
    """The APIs it is reachable by. In several, it is an instance of its own in each."""
    name: str = ""
    """What people call it; by default the id."""
    description: str | None = None
    """What it is for."""
    type: Literal["static", "tool", "proxy", "sequence"] = "static"
    """What it does."""
    content: str | None = None
    """What it says."""
    role: str = Field("assistant", min_length=1)
    """The role of its messages."""
    finish_reason: (
        Literal["stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", "tool_use", "refusal"]
        | None
    ) = None
    """Why it ends, in OpenAI's or Anthropic's words; by default what goes with its type."""
    delay: Duration = 0.0
    """What an answer takes, whole or streamed."""
    stream_chunks: tuple[str, ...] = ()
    """The content, as it is to be streamed."""
    thinking: str = ""
    """What it says that it thinks, before its content."""
    tool_call: Annotated[tuple[ToolCallSpec, ...], BeforeValidator(_one_or_several)] = ()
    """The call it makes, or a list of calls."""
    delegate_model: str = ""
    """The model that answers for a proxy."""
    transformer: Annotated[tuple[TransformName, ...], BeforeValidator(_one_or_several)] = ()
    """What a proxy does to the conversation: a name, or a list of names, in order."""
    usage: UsageSpec | None = None
    """Tokens to report in place of estimates."""
    failure: FailureSpec | None = None
    """How it fails."""
    sequence: SequenceSpec | None = None
    """What its requests get, in turn."""

    @model_validator(mode="after")
    def _has_the_fields_of_its_type(self) -> "VirtualModelSpec":
        for field, types in _OF_TYPES.items():
            if field in self.model_fields_set and self.type not in types:
                name = type(self).model_fields[field].alias
                raise invalid(
                    f"{name} is for models of type {' and '.join(types)}, and this one is of type {self.type}"
                )
        if self.type == "proxy" and self.content is not None:
            raise invalid("content is not for models of type proxy: they say what their delegate says")
        if self.type == "tool" and not self.tool_call:
            raise invalid("toolCall is missing: a model of type tool needs a call to make")
        if self.stream_chunks and self.content is not None and "".join(self.stream_chunks) != self.content:
            raise invalid("streamChunks must join to content, so that streams say the same; or leave content out")
        if len(set(self.protocols)) < len(self.protocols):
            raise invalid("protocols names one twice")
        return self


class VirtualModelsSpec(Spec):
    """A file of virtual models."""

    models: tuple[VirtualModelSpec, ...] = Field(min_length=1)
    """The models."""
