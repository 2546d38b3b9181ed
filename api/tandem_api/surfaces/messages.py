"""Messages as a surface."""

import json as text_json
from collections.abc import Iterator, Sequence
from typing import Any

from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.anthropic.errors import error_body, error_type
from tandem_api.anthropic.requests import (
    Base64Source,
    Block,
    CountRequest,
    ImageBlock,
    MessagesRequest,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from tandem_api.conversations import Ask, Image, Opaque, Part, ToolResult, ToolUse, Turn
from tandem_api.openai.answers import compact
from tandem_api.openai.requests import parse
from tandem_api.replies import ReplyEncoder, Text, Thinking
from tandem_api.surfaces.surface import given, model_of


class Messages:
    """POST /v1/messages."""

    name = "messages"

    def read(self, body: bytes) -> Ask:
        return _ask(parse(MessagesRequest, body), given(body))

    def read_count(self, body: bytes) -> Ask:
        """A request of POST /v1/messages/count_tokens, checked. Errors as of `read`."""
        return _ask(parse(CountRequest, body), given(body))

    def rewritten(self, ask: Ask, model: str, turns: Sequence[Turn]) -> bytes:
        messages = [turn.given if turn.given is not None else _write(turn) for turn in turns]
        return compact({**ask.given, "model": model, "messages": messages}).encode()

    def encoder(self, ask: Ask, response_id: str, created: int) -> ReplyEncoder:
        return MessagesEncoder(response_id, ask.model)

    def error(self, status: int, message: str, *, type: str = "", param: str = "", code: str = "") -> bytes:
        return error_body(message, type=type or error_type(status))


def count_body(tokens: int) -> bytes:
    """The answer to a count of tokens."""
    return compact({"input_tokens": tokens}).encode()


def _ask(request: CountRequest, json: dict[str, Any]) -> Ask:
    asked = request if isinstance(request, MessagesRequest) else None
    return Ask(
        model=model_of(request.model),
        turns=tuple(
            Turn(message.role, tuple(_part(block) for block in message.content), raw)
            for message, raw in zip(request.messages, json["messages"], strict=True)
        ),
        instructions="".join(block.text for block in request.system or ()),
        stream=bool(asked and asked.stream),
        max_tokens=asked.max_tokens if asked else None,
        stops=tuple(stop for stop in (asked.stop_sequences if asked else None) or () if stop),
        thinks=request.thinking is None or request.thinking.type != "disabled",
        calls=request.tool_choice is None or request.tool_choice.type != "none",
        given=json,
    )


def _part(block: Block) -> Part:
    match block:
        case TextBlock():
            return Text(block.text)
        case ImageBlock(source=Base64Source() as source):
            return Image(f"data:{source.media_type};base64,{source.data}")
        case ImageBlock(source=UrlSource() as source):
            return Image(source.url)
        case ToolUseBlock():
            return ToolUse(block.id, block.name, compact(block.input))
        case ToolResultBlock():
            text = "".join(inner.text for inner in block.content or () if isinstance(inner, TextBlock))
            images = tuple(part for inner in block.content or () if isinstance(part := _part(inner), Image))
            return ToolResult(block.tool_use_id, text, images)
        case ThinkingBlock():
            return Thinking(block.thinking, block.signature)
        case _:
            return Opaque(block.type)


def _write(turn: Turn) -> dict[str, Any]:
    return {"role": turn.role, "content": list(_blocks(turn.parts))}


def _blocks(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    for part in parts:
        match part:
            case Text():
                yield {"type": "text", "text": part.text}
            case Thinking():
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
            case ToolUse():
                yield {"type": "tool_use", "id": part.id, "name": part.name, "input": text_json.loads(part.arguments)}
            case ToolResult():
                yield {"type": "tool_result", "tool_use_id": part.id, "content": _result(part)}
            case Image():
                yield {"type": "image", "source": _source(part.url)}
            case Opaque():
                pass


def _result(result: ToolResult) -> str | list[dict[str, Any]]:
    if not result.images:
        return result.text
    texts = (Text(result.text),) if result.text else ()
    return list(_blocks((*texts, *result.images)))


def _source(url: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(",")
    return {"type": "base64", "media_type": kind.partition(";")[0], "data": data}
