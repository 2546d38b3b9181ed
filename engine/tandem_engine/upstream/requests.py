"""What an upstream is asked, made of what the client asked. Pure.

Messages and Responses are asked for as chat completions, which every server knows; only tokens are counted by the
server's own Messages, since nobody else knows its template.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from tandem_api.as_chat import messages_as_chat, responses_as_chat
from tandem_api.conversations import Ask, Opaque
from tandem_api.openai.requests import RequestError
from tandem_api.surfaces import Messages, Responses
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.bounds import bring_into_range
from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest, NotFound

_CHAT: Final = "/v1/chat/completions"
PATHS: Final = {
    pb.API_CHAT_COMPLETIONS: _CHAT,
    pb.API_MESSAGES: _CHAT,
    pb.API_RESPONSES: _CHAT,
    pb.API_COMPLETIONS: "/v1/completions",
    pb.API_COUNT_TOKENS: "/v1/messages/count_tokens",
    pb.API_EMBEDDINGS: "/v1/embeddings",
}
"""What upstreams are asked by, for each API."""

_DOCUMENTS: Final = ("document", "search_result", "container_upload")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read."""

    api: "pb.Api.ValueType"
    body: dict[str, Any]
    stream: bool
    tells_usage: bool
    """The client wants the usage in its stream; Tandem always does."""
    inputs: int = 0
    """Of an embedding request: how many vectors are wanted."""
    ask: Ask | None = None
    """What the client asked, where the body asks for it in other words."""

    @property
    def path(self) -> str:
        return PATHS[self.api]

    @property
    def embeds(self) -> bool:
        return self.inputs > 0

    @property
    def counts(self) -> bool:
        return self.api == pb.API_COUNT_TOKENS

    def to(self, model: str) -> bytes:
        """The body for a server that calls the model so."""
        return json.dumps({**self.body, "model": model}, separators=(",", ":")).encode()


def read(call: Call, model: str, max_tokens: int) -> Asked:
    """Reads a call. Numbers are brought within the platform's limits; the rest is the upstream's to judge.

    Raises:
        InvalidRequest: it is no request to one of the APIs.
        NotFound: it asks for another model.
    """
    if call.api not in PATHS:
        raise InvalidRequest("models behind upstream servers do not serve this API: use chat/completions")
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be a JSON object")
    if body.get("model", model) != model:
        raise NotFound(f"the model {str(body['model'])[:200]!r} is not served here", param="model")
    match call.api:
        case pb.API_EMBEDDINGS:
            return Asked(call.api, body, stream=False, tells_usage=False, inputs=_inputs(body.get("input")))
        case pb.API_MESSAGES | pb.API_RESPONSES | pb.API_COUNT_TOKENS:
            return _in_chats_words(call, body, max_tokens)
        case pb.API_CHAT_COMPLETIONS:
            body["messages"] = _messages(body.get("messages"))
    bring_into_range(body, max_tokens)
    if not body.get("stream"):
        return Asked(call.api, body, stream=False, tells_usage=False)
    options = body.get("stream_options")
    tells = isinstance(options, dict) and bool(options.get("include_usage"))
    return Asked(call.api, _telling(body), stream=True, tells_usage=tells)


def _in_chats_words(call: Call, body: dict[str, Any], max_tokens: int) -> Asked:
    try:
        match call.api:
            case pb.API_COUNT_TOKENS:
                ask = Messages().read_count(call.body)
                _refuse_what_chat_lacks(ask, "input_schema")
                return Asked(call.api, body, stream=False, tells_usage=False, ask=ask)
            case pb.API_MESSAGES:
                ask = Messages().read(call.body)
                _refuse_what_chat_lacks(ask, "input_schema")
                chat = messages_as_chat(ask)
                chat.setdefault("max_completion_tokens", max_tokens)
            case _:
                ask = Responses().read(call.body)
                _refuse_what_chat_lacks(ask, "name")
                chat = responses_as_chat(ask)
    except RequestError as error:
        raise InvalidRequest(error.message, param=error.param) from None
    if (limit := chat.pop("max_completion_tokens", None)) is not None:
        chat["max_tokens"] = limit  # the name that all servers know
    bring_into_range(chat, max_tokens)
    return Asked(call.api, _telling(chat) if ask.stream else chat, stream=ask.stream, tells_usage=True, ask=ask)


def _refuse_what_chat_lacks(ask: Ask, needed: str) -> None:
    """`needed` is what a tool of the client's own has."""
    for turn in ask.turns:
        for part in turn.parts:
            if isinstance(part, Opaque) and part.type in _DOCUMENTS:
                raise InvalidRequest(f"content of type {part.type} is not served by this model: send its text")
    for tool in ask.given.get("tools") or ():
        if tool.get(needed) is None:
            kind = str(tool.get("type"))[:64]
            raise InvalidRequest(f"tools of type {kind} run nowhere here: this model calls functions", param="tools")


def _telling(body: dict[str, Any]) -> dict[str, Any]:
    """With usage at the stream's end."""
    options = body.get("stream_options")
    return {**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}}


def _inputs(given: Any) -> int:
    if isinstance(given, str) and given:
        return 1
    if isinstance(given, list) and given:
        if all(isinstance(item, int) and not isinstance(item, bool) for item in given):
            return 1
        if all(isinstance(item, str) for item in given) or all(isinstance(item, list) and item for item in given):
            return len(given)
    raise InvalidRequest("must be a text, tokens, or a list of one of them, and not empty", param="input")


def _messages(given: Any) -> list[Any]:
    """With the arguments of tool calls as JSON text: strict servers refuse objects (requirements 14.2, row 18)."""
    if not isinstance(given, list) or not given:
        raise InvalidRequest("must be a list with at least one message", param="messages")
    for message in given:
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list):
            repair_calls(calls)
    return given


def repair_calls(calls: list[Any]) -> None:
    """Makes text of arguments that are JSON objects, in place (requirements SH-37; llama.cpp issue 20198)."""
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and not isinstance(function.get("arguments", ""), str):
            arguments = function["arguments"]
            function["arguments"] = "" if arguments is None else json.dumps(arguments, separators=(",", ":"))
