"""What /openapi.json says of the inference paths, which FastAPI relays without knowing their shapes."""

from typing import Any

from tandem_router.parsing import FRONTENDS, Frontend

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

_ERRORS = {
    "400": "The request is wrong: what, and in which member",
    "404": "The model does not exist",
    "413": "The body is too large",
    "429": "All places are taken; Retry-After says when to come again",
    "503": "No worker of the model is ready; Retry-After says when to come again",
    "504": "The service's requestTimeout is over",
}

_PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
    "/v1/completions": {"prompt": {"oneOf": [{"type": "string"}, {"type": "array"}]}},
}


def with_inference(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the inference paths and the shape of errors."""
    schema["paths"] = {**{frontend.path: {"post": _operation(frontend)} for frontend in FRONTENDS}, **schema["paths"]}
    schema.setdefault("components", {}).setdefault("schemas", {})["Error"] = _ERROR
    return schema


def _operation(frontend: Frontend) -> dict[str, Any]:
    prompt = _PROMPTS[frontend.path]
    body = {
        "type": "object",
        "required": ["model", *prompt],
        "properties": {
            "model": {"type": "string"},
            **prompt,
            "stream": {"type": ["boolean", "null"], "default": False},
            "user": {"type": ["string", "null"]},
        },
        "additionalProperties": True,
        "description": "As OpenAI's API has it; members that routing does not read go to the worker as they are.",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": f"OpenAI's {frontend.operation.replace('_', ' ')}, streamed or whole",
        "operationId": frontend.operation,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The answer: server-sent events where `stream` is true",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
        },
    }
