"""Chat completions as a surface."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tandem_api.conversations import Ask, Image, Part, ToolResult, ToolUse, Turn
from tandem_api.openai.answers import compact
from tandem_api.openai.chat import ChatRequest, Message
from tandem_api.openai.chat_replies import ChatReplyEncoder
from tandem_api.openai.errors import error_body
from tandem_api.openai.requests import RequestError, parse, sampling
from tandem_api.replies import ReplyEncoder, Text
from tandem_api.surfaces.surface import given, model_of
from tandem_api.surfaces.types import openai_type

_NO_CAP: Final = 2**31


class Chat:
    """POST /v1/chat/completions."""

    name = "chat"

    def read(self, body: bytes) -> Ask:
        request = parse(ChatRequest, body)
        model = model_of(request.model)
        if request.choices > 1:
            raise RequestError("n must be 1 for this model", param="n")
        limits = sampling(request, cap=_NO_CAP, max_tokens=request.max_completion_tokens)
        json = given(body)
        return Ask(
            model=model,
            turns=tuple(
                Turn(_role(message), tuple(_parts(message)), raw)
                for message, raw in zip(request.messages, json["messages"], strict=True)
            ),
            stream=bool(request.stream),
            include_usage=request.stream_options is not None and request.stream_options.include_usage,
            max_tokens=limits.max_tokens if limits.max_tokens != _NO_CAP else None,
            stops=limits.stop,
            thinks=json.get("reasoning_effort") != "none",
            calls=request.tool_choice is None or request.tool_choice.type != "none",
            given=json,
        )

    def rewritten(self, ask: Ask, model: str, turns: Sequence[Turn]) -> bytes:
        messages = [
            message for turn in turns for message in ([turn.given] if turn.given is not None else write_turn(turn))
        ]
        return compact({**ask.given, "model": model, "messages": messages}).encode()

    def encoder(self, ask: Ask, response_id: str, created: int) -> ReplyEncoder:
        return ChatReplyEncoder(response_id, ask.model, created, include_usage=ask.include_usage)

    def error(self, status: int, message: str, *, type: str = "", param: str = "", code: str = "") -> bytes:
        return error_body(message, type=type or openai_type(status), param=param, code=code)


def _role(message: Message) -> str:
    match message.role:
        case "developer":
            return "system"
        case "tool" | "function":
            return "user"
        case role:
            return role


def _parts(message: Message) -> Iterator[Part]:
    texts = [Text(part.text) for part in message.content if part.text is not None]
    if message.role in ("tool", "function"):
        yield ToolResult(message.tool_call_id or message.name or "", "".join(part.text for part in texts))
        return
    yield from texts
    for part in message.content:
        if part.image_url is not None:
            yield Image(part.image_url.url)
    for call in message.tool_calls or ():
        yield ToolUse(call.id, call.function.name, call.function.arguments)


def write_turn(turn: Turn) -> Iterator[dict[str, Any]]:
    """The messages of a turn: results are messages of their own in chat."""
    for part in turn.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.id, "content": part.text}
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for part in turn.parts:
        match part:
            case Text():
                content.append({"type": "text", "text": part.text})
            case Image():
                content.append(_image(part))
            case ToolResult():
                content += map(_image, part.images)  # a tool's message is text alone
            case ToolUse():
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            case _:
                pass
    if content or calls:
        message: dict[str, Any] = {"role": turn.role, "content": content or None}
        yield message | {"tool_calls": calls} if calls else message


def _image(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": image.url}}
