"""Requests of Messages and Responses as the chat completions that ask for the same, for whoever serves only those.

What chat has no word for is left out: what a provider runs itself, such as web search, and documents.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tandem_api.conversations import Ask
from tandem_api.surfaces.chat import write_turn

_SAME: Final = ("model", "temperature", "top_p", "top_k", "stream", "cache_salt", "seed", "ignore_eos", "min_tokens")
_CHOICES: Final = {"any": "required"}


def messages_as_chat(ask: Ask) -> dict[str, Any]:
    """The body of a chat completion for a request of Messages."""
    body = _common(ask)
    if ask.stops:
        body["stop"] = list(ask.stops)
    if tools := [
        _anthropic_tool(tool) for tool in ask.given.get("tools") or () if tool.get("input_schema") is not None
    ]:
        body["tools"] = tools
        choice = ask.given.get("tool_choice")
        if choice is not None:
            named = {"type": "function", "function": {"name": choice.get("name")}}
            kind = choice["type"]
            body["tool_choice"] = named if kind == "tool" else _CHOICES.get(kind, kind)
            if choice.get("disable_parallel_tool_use"):
                body["parallel_tool_calls"] = False
    config = _member(ask.given, "output_config")
    _think(body, ask, config.get("effort"))
    form = _member(config, "format")
    if form.get("schema"):
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": form["schema"]}}
    return body


def responses_as_chat(ask: Ask) -> dict[str, Any]:
    """The body of a chat completion for a request of Responses."""
    body = _common(ask)
    functions = [tool for tool in ask.given.get("tools") or () if tool.get("type") == "function"]
    if functions:
        body["tools"] = [
            {"type": "function", "function": {key: tool[key] for key in _FUNCTION if tool.get(key) is not None}}
            for tool in functions
        ]
        choice = ask.given.get("tool_choice")
        if isinstance(choice, dict):
            body["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        elif choice is not None:
            body["tool_choice"] = choice
        if ask.given.get("parallel_tool_calls") is not None:
            body["parallel_tool_calls"] = ask.given["parallel_tool_calls"]
    _think(body, ask, _member(ask.given, "reasoning").get("effort"))
    form = _member(_member(ask.given, "text"), "format")
    if form.get("type") == "json_schema":
        schema = {key: form[key] for key in ("name", "schema", "strict") if key in form}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif form.get("type") == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


_FUNCTION: Final = ("name", "description", "parameters", "strict")


def _member(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object in an object; an empty one where there is something else."""
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _think(body: dict[str, Any], ask: Ask, effort: Any) -> None:
    """How much to think; where nothing is said, that is the model's."""
    if not ask.thinks:
        body["reasoning_effort"] = "none"
    elif isinstance(effort, str):
        body["reasoning_effort"] = effort


def _common(ask: Ask) -> dict[str, Any]:
    body = {name: ask.given[name] for name in _SAME if ask.given.get(name) is not None}
    body["messages"] = _joined(_messages(ask))
    if ask.max_tokens is not None:
        body["max_completion_tokens"] = ask.max_tokens
    return body


def _joined(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """With what the assistant said at one go as one message: results of tools must follow their calls at once."""
    joined: list[dict[str, Any]] = []
    for message in messages:
        before = joined[-1] if joined else {}
        if message["role"] == before.get("role") == "assistant":
            content = [*_parts(before["content"]), *_parts(message["content"])]
            calls = [*before.get("tool_calls", ()), *message.get("tool_calls", ())]
            joined[-1] = {**before, "content": content or None, **({"tool_calls": calls} if calls else {})}
        else:
            joined.append(message)
    return joined


def _parts(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content or []


def _messages(ask: Ask) -> Iterator[dict[str, Any]]:
    if ask.instructions:
        yield {"role": "system", "content": ask.instructions}
    for turn in ask.turns:
        yield from write_turn(turn)


def _anthropic_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["name"], "parameters": tool["input_schema"]}
    for name in ("description", "strict"):
        if tool.get(name) is not None:
            function[name] = tool[name]
    return {"type": "function", "function": function}
