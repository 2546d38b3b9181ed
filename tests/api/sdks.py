"""The official clients, reading bytes that were encoded here: what they make of a body, and of a stream."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import anthropic
import httpx2
import openai
from tandem_api.anthropic.answers import MessagesEncoder
from tandem_api.openai.chat_replies import ChatReplyEncoder
from tandem_api.openai.response_replies import ResponseEncoder
from tandem_api.replies import Reply, ReplyEncoder

ASKED: Any = {"role": "user", "content": "Hello"}


class _Bytes(httpx2.SyncByteStream):
    """A body that comes one byte at a time, so that every character is split wherever it can be."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for at in range(len(self._body)):
            yield self._body[at : at + 1]


def plain(value: Any) -> Any:
    """Without what the clients' helpers for streams add: members that are null, numbers of calls, parsed values."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    added = {"parsed", "parsed_arguments", "parsed_output"} | ({"index"} if "function" in value else set())
    return {
        name: inner if name == "input" else plain(inner)
        for name, inner in value.items()
        if inner is not None and name not in added
    }


class _Clients:
    """Both clients, in front of whatever is to be answered next."""

    def __init__(self) -> None:
        self.type, self.body = "", b""
        http = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        self.openai = openai.OpenAI(api_key="none", base_url="http://tandem.test/v1", http_client=http, max_retries=0)
        self.anthropic = anthropic.Anthropic(
            api_key="none", base_url="http://tandem.test", http_client=http, max_retries=0
        )

    def _answer(self, _request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.type}, stream=_Bytes(self.body))


_clients = cache(_Clients)


def _whole(encoder: ReplyEncoder, reply: Reply) -> _Clients:
    clients = _clients()
    clients.type, clients.body = "application/json", encoder.body(reply)
    return clients


def _streamed(encoder: ReplyEncoder, reply: Reply, pieces: Sequence[Sequence[str]]) -> _Clients:
    clients = _clients()
    events = encoder.events(reply, pieces)
    clients.type = "text/event-stream; charset=utf-8"
    clients.body = b"".join((events.opening, *events.chunks, events.closing))
    return clients


def chat_both(reply: Reply, pieces: Sequence[Sequence[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client has of a reply on chat completions: whole, and put together from a stream."""
    encoder = ChatReplyEncoder("chatcmpl-virtual-k1", "m", 7, include_usage=True)
    whole = _whole(encoder, reply).openai.chat.completions.create(model="m", messages=[ASKED])
    helper = _streamed(encoder, reply, pieces).openai.chat.completions.stream(
        model="m", messages=[ASKED], stream_options={"include_usage": True}
    )
    with helper as stream:
        # The client raises at "length" and "content_filter", and goes on where it is asked again.
        for _ in range(2):
            with suppress(openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
                stream.until_done()
        gathered = stream.current_completion_snapshot
    return plain(whole.to_dict()), plain(gathered.to_dict())


def responses_both(reply: Reply, pieces: Sequence[Sequence[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client has of a reply on Responses, likewise."""
    encoder = ResponseEncoder("resp-virtual-k1", "m", 7, {})
    whole = _whole(encoder, reply).openai.responses.create(model="m", input="Hello")
    with _streamed(encoder, reply, pieces).openai.responses.stream(model="m", input="Hello") as stream:
        last: Any = list(stream)[-1]
    return plain(whole.to_dict()), plain(last.response.to_dict())


def messages_both(reply: Reply, pieces: Sequence[Sequence[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client has of a reply on Messages, likewise."""
    encoder = MessagesEncoder("msg_virtual_k1", "m")
    whole = _whole(encoder, reply).anthropic.messages.create(model="m", max_tokens=9, messages=[ASKED])
    helper = _streamed(encoder, reply, pieces).anthropic.messages.stream(model="m", max_tokens=9, messages=[ASKED])
    with helper as stream:
        final = stream.get_final_message()
    return plain(whole.to_dict()), plain(final.to_dict())


BOTH: dict[str, Callable[[Reply, Sequence[Sequence[str]]], tuple[dict[str, Any], dict[str, Any]]]] = {
    "chat": chat_both,
    "responses": responses_both,
    "messages": messages_both,
}


def events_of(stream: bytes) -> list[tuple[str, Any]]:
    """Name ("" where it has none) and data of every event; data that is not JSON stays text."""
    events = []
    assert stream.endswith(b"\n\n")
    for frame in stream.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n"))
        data = fields["data"]
        events.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return events
