"""What an event of a stream, or a whole answer, says as far as it is measured; one function for each kind of API.

Only those members are read, by msgspec: a fraction of what dictionaries of an event cost, of which a client reads
thousands a second. What else there is may be there or not. Each function raises ValueError for what it can't read.
"""

from typing import Any, Final

import msgspec


class Heard(msgspec.Struct, frozen=True):
    """What was said."""

    content: bool = False
    prompt_tokens: int = 0
    output_tokens: int = 0
    over: bool = False
    """A stream's own end: one that ends without was cut."""
    failed: bool = False


def openai(data: bytes) -> Heard:
    """Of chat completions and completions."""
    if data == b"[DONE]":
        return _OVER
    event = _openai(data)
    usage = event.usage or _NO_OPENAI_USAGE
    content = False
    for choice in event.choices or ():  # any() would make a generator for each event
        content = content or choice.speaks
    return Heard(
        content=content,
        prompt_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        failed=event.error is not None,
    )


def responses(data: bytes) -> Heard:
    """Of OpenAI's responses. Some servers, Tandem's among them, add a [DONE] to what says the end."""
    if data == b"[DONE]":
        return _NOTHING
    event = _responses(data)
    usage = (event.response or event).usage or _NO_USAGE
    return Heard(
        content=event.type.endswith(".delta"),
        prompt_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        over=event.type in ("response.completed", "response.incomplete"),
        failed=event.type in ("error", "response.failed"),
    )


def anthropic(data: bytes) -> Heard:
    """Of Anthropic's messages."""
    event = _messages(data)
    usage, begun = event.usage or _NO_USAGE, (event.message and event.message.usage) or _NO_USAGE
    return Heard(
        content=event.type == "content_block_delta" and event.delta is not None and event.delta.speaks,
        prompt_tokens=usage.input_tokens or begun.input_tokens or 0,
        output_tokens=usage.output_tokens or 0 if event.type in ("message_delta", "message") else 0,
        over=event.type == "message_stop",
        failed=event.type == "error",
    )


# ---- OpenAI's chat completions and completions


class _OpenAIUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _OpenAIDelta(msgspec.Struct):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    delta: _OpenAIDelta | None = None
    text: Any = None

    @property
    def speaks(self) -> bool:
        said = self.delta
        if said is None:
            return bool(self.text)
        return bool(said.content or said.reasoning or said.reasoning_content or said.tool_calls or said.refusal)


class _OpenAIEvent(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _OpenAIUsage | None = None
    error: Any = None


# ---- OpenAI's responses and Anthropic's messages


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Counted(msgspec.Struct):
    usage: _Usage | None = None


class _ResponsesEvent(msgspec.Struct):
    type: str = ""
    response: _Counted | None = None
    usage: _Usage | None = None


class _AnthropicDelta(msgspec.Struct):
    text: Any = None
    thinking: Any = None
    partial_json: Any = None

    @property
    def speaks(self) -> bool:
        return bool(self.text or self.thinking or self.partial_json)


class _AnthropicEvent(msgspec.Struct):
    type: str = ""
    message: _Counted | None = None
    usage: _Usage | None = None
    delta: _AnthropicDelta | None = None


_NOTHING: Final = Heard()
_OVER: Final = Heard(over=True)
_NO_OPENAI_USAGE: Final = _OpenAIUsage()
_NO_USAGE: Final = _Usage()
_openai = msgspec.json.Decoder(_OpenAIEvent).decode
_responses = msgspec.json.Decoder(_ResponsesEvent).decode
_messages = msgspec.json.Decoder(_AnthropicEvent).decode
