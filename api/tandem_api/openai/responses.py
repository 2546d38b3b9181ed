"""Responses: the request, as far as an API without state can serve it.

Nothing is stored, so what needs an earlier response, or one to come back to, is refused with the reason.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag, ValidationInfo, field_validator

from tandem_api.openai.requests import Lenient

STATELESS: Final = "nothing is stored here: send the whole conversation in input, with store: false"


class TextPart(Lenient):
    """Text, of any role."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class ImagePart(Lenient):
    """An image: a URL or a data URL."""

    type: Literal["input_image"]
    image_url: str


class RefusalPart(Lenient):
    """The assistant's refusal."""

    type: Literal["refusal"]
    refusal: str


def _as_parts(value: Any) -> Any:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


MessagePart = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class MessageItem(Lenient):
    """A message."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[tuple[MessagePart, ...], BeforeValidator(_as_parts)]


class CallItem(Lenient):
    """A call that the assistant made."""

    call_id: str
    name: str
    arguments: str


class OutputItem(Lenient):
    """What came of a call."""

    call_id: str
    output: Annotated[tuple[MessagePart, ...], BeforeValidator(_as_parts)]


class ReasoningText(Lenient):
    """A part of what was thought."""

    text: str


class ReasoningItem(Lenient):
    """What the assistant thought."""

    content: tuple[ReasoningText, ...] | None = None


class OpaqueItem(Lenient):
    """An item that is taken as it is: calls of tools that run elsewhere, and their results."""

    type: str


class ReferenceItem(Lenient):
    """An item of an earlier response, which nothing here remembers."""

    id: str

    @field_validator("id")
    @classmethod
    def _is_unknown(cls, id: str) -> str:
        raise ValueError(f"can't be looked up: {STATELESS}")


def _kind(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    type = item.get("type", "message" if "role" in item else None)
    known = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
    return type if type in known else "opaque" if isinstance(type, str) and type else None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ReferenceItem, Tag("item_reference")]
    | Annotated[OpaqueItem, Tag("opaque")],
    Discriminator(_kind, custom_error_type="item", custom_error_message="must be an item with a type, or with a role"),
]


def _as_items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class Tool(Lenient):
    """A tool: a function of the client's, or one of OpenAI's own, which has a type only."""

    type: str
    name: str | None = None


class NamedTool(Lenient):
    """The tool that must be called."""

    type: str
    name: str | None = None


class Reasoning(Lenient):
    """How much to think."""

    effort: str | None = None


class ResponsesRequest(Lenient):
    """The body of POST /v1/responses."""

    model: str | None = None
    input: Annotated[tuple[Item, ...], BeforeValidator(_as_items), Field(min_length=1)]
    instructions: str | None = None
    stream: bool | None = False
    store: bool | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, JsonValue] | None = None
    reasoning: Reasoning | None = None
    previous_response_id: str | None = None
    conversation: JsonValue = None
    background: bool | None = None

    @field_validator("previous_response_id", "conversation", "background")
    @classmethod
    def _needs_no_state(cls, value: Any, info: ValidationInfo) -> Any:
        if value:
            raise ValueError(f"is not supported: {STATELESS}")
        return value
