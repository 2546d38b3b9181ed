"""The fields of a declared virtual model (requirements VM-16 to VM-20, section 4)."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tandem_api.inference_service.base import Spec, invalid
from tandem_api.inference_service.quantities import Duration
from tandem_api.inference_service.virtual_model import (
    FailureSpec,
    FinishReason,
    SequenceSpec,
    ToolCallSpec,
    UsageSpec,
    VirtualModelEngineSpec,
)

ProtocolName = Literal["openai", "anthropic"]
TransformName = Literal[
    "compact-thinking", "compact-round-only", "compact-round-files", "claude-code-compact", "claude-code-strategy"
]

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
    finish_reason: FinishReason | None = None
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


def as_declared(engine: VirtualModelEngineSpec, id: str) -> VirtualModelSpec:
    """The model that a service's engine describes, which does not name one in `use`."""
    type = "tool" if engine.tool_call else "static" if engine.sequence is None else "sequence"
    given = {name: value for name, value in engine if value is not None}
    return VirtualModelSpec(id=id, type=type, **given)
