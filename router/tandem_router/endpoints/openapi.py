"""What /openapi.json says of the inference paths, which FastAPI relays without knowing their shapes."""

from dataclasses import dataclass
from typing import Any, Final

from tandem_router.frontends.parsing import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS_API,
    FRONTENDS,
    MESSAGES_API,
    RESPONSES_API,
    Frontend,
)
from tandem_router.frontends.shapes import AnthropicShape

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_ANTHROPIC_ERROR: Final = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}

_ERRORS = {
    "400": "The request is wrong: what, and in which member",
    "404": "The model does not exist",
    "413": "The body is too large",
    "429": "All places are taken, or a limit is reached; Retry-After says when to come again",
    "500": "The worker failed",
    "503": "No worker of the model is ready; Retry-After says when to come again",
    "504": "The service's requestTimeout is over",
}

_MESSAGES: Final = {"type": "array", "items": {"type": "object"}, "minItems": 1}


@dataclass(frozen=True, slots=True)
class _Described:
    id: str
    summary: str
    prompt: dict[str, Any]
    streams: bool = True


_DESCRIBED: Final[dict[Frontend, _Described]] = {
    CHAT: _Described("chat", "OpenAI's chat completions, streamed or whole", {"messages": _MESSAGES}),
    COMPLETIONS: _Described(
        "text_completion",
        "OpenAI's text completions, streamed or whole",
        {"prompt": {"oneOf": [{"type": "string"}, {"type": "array"}]}},
    ),
    RESPONSES_API: _Described(
        "responses",
        "OpenAI's Responses without state: store is false, previous_response_id and background are refused",
        {"input": {"oneOf": [{"type": "string"}, _MESSAGES]}},
    ),
    MESSAGES_API: _Described("messages", "Anthropic's Messages, streamed or whole", {"messages": _MESSAGES}),
    COUNT_TOKENS: _Described(
        "count_tokens", "Count the tokens of a request to Messages", {"messages": _MESSAGES}, False
    ),
    EMBEDDINGS_API: _Described(
        "embeddings",
        "OpenAI's embeddings, by models behind upstream servers",
        {"input": {"oneOf": [{"type": "string"}, {"type": "array"}]}},
        False,
    ),
}


def with_inference(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the inference paths and the shapes of errors."""
    schema["paths"] = {**{frontend.path: {"post": _operation(frontend)} for frontend in FRONTENDS}, **schema["paths"]}
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = _ERROR
    schemas["AnthropicError"] = _ANTHROPIC_ERROR
    return schema


def _operation(frontend: Frontend) -> dict[str, Any]:
    described = _DESCRIBED[frontend]
    anthropic = isinstance(frontend.shape, AnthropicShape)
    body = {
        "type": "object",
        "required": ["model", *described.prompt],
        "properties": {
            "model": {"type": "string"},
            **described.prompt,
            **({"stream": {"type": ["boolean", "null"], "default": False}} if described.streams else {}),
            **({} if anthropic else {"user": {"type": ["string", "null"]}}),
        },
        "additionalProperties": True,
        "description": "As the API has it; members that routing does not read go to the worker as they are.",
    }
    shape = "AnthropicError" if anthropic else "Error"
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if described.streams:
        # No schema: OpenAPI 3.1 does not say whether it would be of the stream or of each event.
        answers["text/event-stream"] = {}
    text = "The answer: server-sent events where `stream` is true" if described.streams else "The answer"
    return {
        "summary": described.summary,
        "operationId": described.id,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": text, "content": answers},
            **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
        },
    }
