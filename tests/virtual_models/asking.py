"""Asking virtual models by bytes, with time and ids that stand still."""

import json
from typing import Any

from tandem_api.surfaces import Chat, Messages, Responses, Surface
from tandem_virtual.answering import Answering
from tandem_virtual.models import VirtualModel
from tandem_virtual.outcomes import Outcome, Streamed, Whole
from tandem_virtual.registry import Protocol, Registries

SURFACES: dict[str, Surface] = {"chat": Chat(), "responses": Responses(), "messages": Messages()}
HELLO: Any = [{"role": "user", "content": "Hello world"}]


def with_models(*models: VirtualModel) -> Registries:
    """Registries of a test's own."""
    registries = Registries()
    for model in models:
        registries.register(model)
    return registries


def request(surface: str, model: str, **members: Any) -> dict[str, Any]:
    """The smallest request of a surface."""
    conversation = "input" if surface == "responses" else "messages"
    return {"model": model, conversation: HELLO} | members


def asked(registries: Registries, surface: str, body: dict[str, Any] | bytes) -> Outcome:
    """What is to happen for a request."""
    models = registries.of(Protocol.ANTHROPIC if surface == "messages" else Protocol.OPENAI)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answering(lambda: 1_700_000_000.5, lambda: "k1").answer(SURFACES[surface], models, raw)


def answered(registries: Registries, surface: str, body: dict[str, Any] | bytes, status: int = 200) -> Any:
    """The JSON of a whole answer."""
    outcome = asked(registries, surface, body)
    assert isinstance(outcome, Whole), outcome
    assert outcome.status == status, outcome.body
    return json.loads(outcome.body)


def streamed(registries: Registries, surface: str, body: dict[str, Any]) -> Streamed:
    """A stream."""
    outcome = asked(registries, surface, body | {"stream": True})
    assert isinstance(outcome, Streamed), outcome
    return outcome


def said(surface: str, answer: Any) -> tuple[str, list[tuple[str, Any]], tuple[int, int]]:
    """Text, calls and tokens (prompt, completion) of a whole answer."""
    match surface:
        case "chat":
            message, usage = answer["choices"][0]["message"], answer["usage"]
            called = [call["function"] for call in message.get("tool_calls", ())]
            calls = [(call["name"], json.loads(call["arguments"])) for call in called]
            return message["content"] or "", calls, (usage["prompt_tokens"], usage["completion_tokens"])
        case "responses":
            items, usage = answer["output"], answer["usage"]
            text = "".join(item["content"][0]["text"] for item in items if item["type"] == "message")
            calls = [(item["name"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"]
            return text, calls, (usage["input_tokens"], usage["output_tokens"])
        case _:
            blocks, usage = answer["content"], answer["usage"]
            text = "".join(block["text"] for block in blocks if block["type"] == "text")
            calls = [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
            return text, calls, (usage["input_tokens"], usage["output_tokens"])
