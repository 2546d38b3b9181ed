"""Messages on vLLM's own class for them, which makes a chat completion of each and writes its answer anew.

The two steps are taken apart here: failures of the chat completion go on as what they are, where vLLM would write a
failure of its own in their place; and the stream keeps its grammar. Where tools are given, a whole answer is gathered
from the stream: vLLM reads a whole text for calls in another way, which makes text of a call that was cut.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

from starlette.requests import Request as HttpRequest
from tandem_api.openai.answers import compact
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from tandem_engine.errors import CallError
from tandem_engine.message_stream import BrokenStream, Event, GatheredMessage, MessageStream
from tandem_engine.vllm import failures

MessagesRequest: TypeAlias = AnthropicMessagesRequest | AnthropicCountTokensRequest


async def as_chat(serving: Any, request: MessagesRequest) -> ChatCompletionRequest:
    """The chat completion that vLLM makes of a request.

    Args:
        serving: AnthropicServingMessages.
        request: as validated.
    """
    thinking = request.thinking
    disabled = thinking is not None and thinking.type == "disabled"
    chat: ChatCompletionRequest = serving.to_chat_completion_request(
        request,
        merge_inline_system=serving._merge_inline_system,
        disabled_thinking_effort=await serving._get_disabled_thinking_effort() if disabled else "none",
    )
    return chat


async def create(
    serving: Any, request: AnthropicMessagesRequest, http: HttpRequest, response_id: str
) -> AsyncGenerator[str, None] | bytes | ErrorResponse:
    """SSE events for a stream, else the body of the answer.

    Args:
        serving: AnthropicServingMessages.
        request: as validated.
        http: what vLLM reads of the HTTP request.
        response_id: the answer's "id".
    """
    gathers = bool(request.tools) and not request.stream
    asked = request.model_copy(update={"stream": True}) if gathers else request
    answer = await serving.create_chat_completion(await as_chat(serving, asked), http)
    if isinstance(answer, ErrorResponse):
        return answer
    if not isinstance(answer, AsyncGenerator):
        message = serving.messages_full_converter(answer)
        told = message.model_dump(exclude_none=True, exclude={"kv_transfer_params", "ec_transfer_params"})
        end = {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
        return compact(told | {"id": response_id} | end).encode()
    events = _events(serving, answer, response_id)
    if not gathers:
        return _written(events)
    gathered = GatheredMessage()
    async with aclosing(events):
        async for event in events:
            gathered.add(event)
    return compact(gathered.message).encode()


async def _written(events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            yield f"event: {event['type']}\ndata: {compact(event)}\n\n"


async def _events(serving: Any, chat: AsyncGenerator[str, None], response_id: str) -> AsyncGenerator[Event, None]:
    stream = MessageStream(response_id)
    failed: list[CallError] = []
    async with (
        aclosing(chat),
        aclosing(_until_it_fails(chat, failed)) as answer,
        aclosing(serving.message_stream_converter(answer)) as events,
    ):
        async for event in events:
            name, _, data = event.partition("\n")
            if name == "event: error":
                break
            try:
                for mended in stream.feed(json.loads(data.removeprefix("data: "))):
                    yield mended
            except BrokenStream as broken:
                raise CallError(failures.FAILED) from broken
    if not stream.complete:
        raise failed[0] if failed else CallError(failures.FAILED)


async def _until_it_fails(chat: AsyncIterator[str], failed: list[CallError]) -> AsyncGenerator[str, None]:
    """The events of a chat completion, but for the one that says that it failed: that is left in `failed`."""
    async for event in chat:
        if error := failures.from_event(event):
            failed.append(error)
            return
        yield event
