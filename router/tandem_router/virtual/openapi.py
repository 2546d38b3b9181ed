"""What /openapi.json says of the paths of virtual models."""

from typing import Any, Final

_SUMMARIES: Final = {
    "chat/completions": "OpenAI's chat completions by virtual models",
    "responses": "OpenAI's Responses by virtual models, without state",
    "messages": "Anthropic's Messages by virtual models",
    "messages/count_tokens": "Count the tokens of a request to Messages",
}
_ERRORS: Final = {
    "400": "The request is wrong: what, and where",
    "404": "The model does not exist behind this path",
    "413": "The body is too large",
    "503": "The router is shutting down",
    "default": "The model fails on purpose",
}


def with_virtual(schema: dict[str, Any], paths: dict[str, str]) -> dict[str, Any]:
    """`schema` with paths that virtual models answer; each has its end, which says its API."""
    schema["paths"] |= {path: {"post": _operation(path, end)} for path, end in paths.items()}
    return schema


def _operation(path: str, end: str) -> dict[str, Any]:
    conversation = "input" if end == "responses" else "messages"
    lists = {"type": "array", "items": {"type": "object"}, "minItems": 1}
    body = {
        "type": "object",
        "required": ["model", conversation],
        "properties": {
            "model": {"type": "string", "minLength": 1},
            conversation: {"oneOf": [{"type": "string"}, lists]} if conversation == "input" else lists,
            "stream": {"type": ["boolean", "null"], "default": False},
        },
        "additionalProperties": True,
    }
    shape = "AnthropicError" if end.startswith("messages") else "Error"
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    answers: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if end != "messages/count_tokens":
        # No schema: OpenAPI 3.1 does not say whether it would be of the stream or of each event.
        answers["text/event-stream"] = {}
    return {
        "summary": _SUMMARIES[end],
        "operationId": path.strip("/").replace("/", "_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "The answer: server-sent events where `stream` is true", "content": answers},
            **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
        },
    }
