"""Messages: the request as far as Tandem's own engines and virtual models read it.

Members that nobody knows are let through, as on OpenAI's paths. The beta schema (`?beta=true`) is read by the same
types: it differs in members that are let through.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tandem_api.openai.requests import Lenient

_OPAQUE: Final = frozenset(
    {"document", "search_result", "redacted_thinking", "server_tool_use", "container_upload", "tool_reference"}
)
"""Kinds of blocks that are taken as they are, with all kinds that end in `_tool_result`."""


class Base64Source(Lenient):
    """An image, in the request itself."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Lenient):
    """An image that is elsewhere."""

    type: Literal["url"]
    url: str


class FileSource(Lenient):
    """An image of the Files API."""

    type: Literal["file"]
    file_id: str


class TextBlock(Lenient):
    """Text."""

    type: Literal["text"]
    text: str


class ImageBlock(Lenient):
    """An image."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


class ToolUseBlock(Lenient):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, JsonValue]


class ThinkingBlock(Lenient):
    """What the assistant thought."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class OpaqueBlock(Lenient):
    """A block that is taken as it is."""

    type: str


def _as_blocks(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class ToolResultBlock(Lenient):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: "Blocks | None" = None
    is_error: bool | None = None


def _kind(block: Any) -> str | None:
    type = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    if not isinstance(type, str):
        return None
    return "opaque" if type in _OPAQUE or type.endswith("_tool_result") else type


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[OpaqueBlock, Tag("opaque")],
    Discriminator(
        _kind,
        custom_error_type="block",
        custom_error_message="must be a block of type text, image, tool_use, tool_result or thinking",
    ),
]
Blocks = Annotated[tuple[Block, ...], BeforeValidator(_as_blocks)]


class Message(Lenient):
    """A message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


class Tool(Lenient):
    """A tool of the client's, or one of Anthropic's own, which has a type and no schema."""

    name: str = Field(min_length=1)
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> "Tool":
        if self.input_schema is None and self.type in (None, "custom"):
            raise ValueError("a tool needs input_schema")
        return self


class ToolChoice(Lenient):
    """Which tool must, may or may not be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class ThinkingConfig(Lenient):
    """Whether to think."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _has_a_budget(self) -> "ThinkingConfig":
        if self.type == "enabled" and self.budget_tokens is None:
            raise ValueError("thinking of type enabled needs budget_tokens")
        return self


class CountRequest(Lenient):
    """The body of POST /v1/messages/count_tokens."""

    model: str | None = None
    messages: tuple[Message, ...] = Field(min_length=1)
    system: Annotated[tuple[TextBlock, ...], BeforeValidator(_as_blocks)] | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None

    @field_validator("tool_choice")
    @classmethod
    def _is_among_tools(cls, choice: ToolChoice | None, info: ValidationInfo) -> ToolChoice | None:
        if choice is None or choice.type in ("none", "auto"):
            return choice
        names = {tool.name for tool in info.data.get("tools") or ()}
        if not names:
            raise ValueError("needs tools")
        if choice.type == "tool" and choice.name not in names:
            raise ValueError("names a tool that is not among tools")
        return choice


class MessagesRequest(CountRequest):
    """The body of POST /v1/messages. `max_tokens` may be left out: the platform's limit stands in."""

    stream: bool | None = False
    max_tokens: int | None = Field(None, ge=1)
    stop_sequences: tuple[str, ...] | None = None
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = None
    top_k: int | None = Field(None, ge=-1)
