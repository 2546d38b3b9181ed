"""Messages on vLLM's own class for them, which makes a chat completion of each and writes its answer anew.

The two steps are taken apart here: failures of the chat completion go on as what they are, where vLLM would write a
failure of its own in their place; calls that were cut are read as far as they go; and the stream keeps its grammar.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

from starlette.requests import Request as HttpRequest
from tandem_api.anthropic.answers import tool_input
from tandem_api.openai.answers import compact
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from tandem_engine.errors import CallError
from tandem_engine.message_stream import BrokenStream, MessageStream
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
    answer = await serving.create_chat_completion(await as_chat(serving, request), http)
    if isinstance(answer, ErrorResponse):
        return answer
    if isinstance(answer, AsyncGenerator):
        return _events(serving, answer, response_id)
    return _body(serving, answer, response_id)


def _body(serving: Any, answer: Any, response_id: str) -> bytes:
    choice = answer.choices[0]
    calls = choice.message.tool_calls
    cut_by = choice.stop_reason if calls and not _is_json(calls[-1].function.arguments) else None
    for call in calls:
        call.function.arguments = json.dumps(tool_input(call.function.arguments))
    message = serving.messages_full_converter(answer)
    end = {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
    if isinstance(cut_by, str):
        # A call that a stop sequence has cut must not be run, and a stream says so.
        end = {"stop_reason": "stop_sequence", "stop_sequence": cut_by}
    told = message.model_dump(exclude_none=True, exclude={"kv_transfer_params", "ec_transfer_params"})
    return compact(told | {"id": response_id} | end).encode()


async def _events(serving: Any, chat: AsyncGenerator[str, None], response_id: str) -> AsyncGenerator[str, None]:
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
                    yield f"event: {mended['type']}\ndata: {compact(mended)}\n\n"
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


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
