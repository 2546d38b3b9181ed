"""What an upstream is asked, made of what the client asked. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Final

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest, NotFound

PATHS: Final = {
    pb.API_CHAT_COMPLETIONS: "/v1/chat/completions",
    pb.API_COMPLETIONS: "/v1/completions",
    pb.API_EMBEDDINGS: "/v1/embeddings",
}
"""The APIs that upstreams are asked by."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read."""

    path: str
    body: dict[str, Any]
    stream: bool
    tells_usage: bool
    """The client wants the usage in its stream; Tandem always does."""
    inputs: int = 0
    """Of an embedding request: how many vectors are wanted."""

    @property
    def embeds(self) -> bool:
        return self.inputs > 0

    def to(self, model: str) -> bytes:
        """The body for a server that calls the model so."""
        return json.dumps({**self.body, "model": model}, separators=(",", ":")).encode()


def read(call: Call, model: str, max_tokens: int) -> Asked:
    """Reads a call. Limits of tokens are cut to the platform's; the rest is the upstream's to judge.

    Raises:
        InvalidRequest: it is no request to one of the APIs.
        NotFound: it asks for another model.
    """
    path = PATHS.get(call.api)
    if path is None:
        raise InvalidRequest("models behind upstream servers do not serve this API: use chat/completions")
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be a JSON object")
    if body.get("model", model) != model:
        raise NotFound(f"the model {str(body['model'])[:200]!r} is not served here", param="model")
    if call.api == pb.API_EMBEDDINGS:
        return Asked(path, body, stream=False, tells_usage=False, inputs=_inputs(body.get("input")))
    for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if isinstance(body.get(limit), int):
            body[limit] = min(body[limit], max_tokens)
    if call.api == pb.API_CHAT_COMPLETIONS:
        body["messages"] = _messages(body.get("messages"))
    if not body.get("stream"):
        return Asked(path, body, stream=False, tells_usage=False)
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    body["stream_options"] = {**options, "include_usage": True}
    return Asked(path, body, stream=True, tells_usage=bool(options.get("include_usage")))


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
