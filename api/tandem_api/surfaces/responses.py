"""Responses as a surface."""

from collections.abc import Iterator, Sequence
from typing import Any

from tandem_api.conversations import Ask, Image, Opaque, Part, ToolResult, ToolUse, Turn
from tandem_api.openai.answers import compact
from tandem_api.openai.errors import error_body
from tandem_api.openai.requests import parse
from tandem_api.openai.response_replies import ResponseEncoder
from tandem_api.openai.responses import (
    CallItem,
    ImagePart,
    Item,
    MessageItem,
    MessagePart,
    OutputItem,
    ReasoningItem,
    ResponsesRequest,
    TextPart,
)
from tandem_api.replies import ReplyEncoder, Text, Thinking
from tandem_api.surfaces.surface import given, model_of
from tandem_api.surfaces.types import openai_type


class Responses:
    """POST /v1/responses."""

    name = "responses"

    def read(self, body: bytes) -> Ask:
        request = parse(ResponsesRequest, body)
        json = given(body)
        raw = json["input"] if isinstance(json["input"], list) else [{"role": "user", "content": json["input"]}]
        return Ask(
            model=model_of(request.model),
            turns=tuple(_turn(item, one) for item, one in zip(request.input, raw, strict=True)),
            instructions=request.instructions or "",
            stream=bool(request.stream),
            max_tokens=request.max_output_tokens,
            thinks=request.reasoning is None or request.reasoning.effort != "none",
            calls=request.tool_choice != "none",
            given=json,
        )

    def rewritten(self, ask: Ask, model: str, turns: Sequence[Turn]) -> bytes:
        items = [item for turn in turns for item in ([turn.given] if turn.given is not None else _write(turn))]
        return compact({**ask.given, "model": model, "input": items}).encode()

    def encoder(self, ask: Ask, response_id: str, created: int) -> ReplyEncoder:
        return ResponseEncoder(response_id, ask.model, created, ask.given)

    def error(self, status: int, message: str, *, type: str = "", param: str = "", code: str = "") -> bytes:
        return error_body(message, type=type or openai_type(status), param=param, code=code)


def _turn(item: Item, raw: Any) -> Turn:
    match item:
        case MessageItem():
            role = "system" if item.role == "developer" else item.role
            return Turn(role, tuple(_parts(item.content)), raw)
        case CallItem():
            return Turn("assistant", (ToolUse(item.call_id, item.name, item.arguments),), raw)
        case OutputItem():
            text = "".join(part.text for part in item.output if isinstance(part, TextPart))
            images = tuple(Image(part.image_url) for part in item.output if isinstance(part, ImagePart))
            return Turn("user", (ToolResult(item.call_id, text, images),), raw)
        case ReasoningItem():
            return Turn("assistant", tuple(Thinking(part.text) for part in item.content or ()), raw)
        case _:
            return Turn("assistant", (Opaque(str(raw.get("type"))),), raw)


def _parts(content: Sequence[MessagePart]) -> Iterator[Part]:
    for part in content:
        match part:
            case TextPart():
                yield Text(part.text)
            case ImagePart():
                yield Image(part.image_url)
            case _:
                yield Text(part.refusal)


def _write(turn: Turn) -> Iterator[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for part in turn.parts:
        match part:
            case Text():
                kind = "output_text" if turn.role == "assistant" else "input_text"
                content.append({"type": kind, "text": part.text})
            case Image():
                content.append({"type": "input_image", "image_url": part.url})
            case _:
                pass
    if content:
        yield {"type": "message", "role": turn.role, "content": content}
    for part in turn.parts:
        match part:
            case ToolUse():
                yield {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
            case ToolResult():
                yield {"type": "function_call_output", "call_id": part.id, "output": _output(part)}
            case _:
                pass


def _output(result: ToolResult) -> str | list[dict[str, Any]]:
    if not result.images:
        return result.text
    texts = [{"type": "input_text", "text": result.text}] if result.text else []
    return [*texts, *({"type": "input_image", "image_url": image.url} for image in result.images)]
