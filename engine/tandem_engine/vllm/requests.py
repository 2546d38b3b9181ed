"""From a client's JSON to vLLM's request: limits of the platform first, then vLLM's own validation.

Requirements 7.3 and 16.1: `max_tokens`, `temperature` and `top_p` are brought into range before vLLM sees them; all
else is as vLLM's server has it. Fields that would speak to the engine rather than to the model are dropped: a client
must not name KV to load, or addresses to load it from.
"""

import json
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from tandem_api.openai.responses import STATELESS
from tandem_proto.tandem.v1 import worker_pb2
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import VLLMClientError

from tandem_engine.bounds import bring_into_range, is_number
from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest
from tandem_engine.vllm import failures

Request: TypeAlias = (
    ChatCompletionRequest
    | CompletionRequest
    | ResponsesRequest
    | AnthropicMessagesRequest
    | AnthropicCountTokensRequest
)

_INTERNAL: Final = ("kv_transfer_params", "ec_transfer_params", "request_id")
_LEAST_TOP_P: Final = 1e-6
"""vLLM takes (0, 1]; so small a share keeps the likeliest token alone, which is what 0 means."""


_STATEFUL: Final = ("previous_response_id", "conversation", "background")
_LEAST_BUDGET: Final = 1024
"""Of tokens for thinking: less is refused, as by Anthropic."""


def parse(call: Call, *, max_tokens: int, reasons: bool) -> Request:
    """A request that vLLM has validated.

    Args:
        call: as it came.
        max_tokens: the platform's cap: more is clamped, never refused.
        reasons: the engine can bound what a model thinks.

    Raises:
        InvalidRequest: with the text that a client gets.
    """
    if call.api == worker_pb2.API_EMBEDDINGS:
        raise InvalidRequest("this model generates text: embeddings come from versions with engine.type upstream")
    body = _object(call.body)
    asked = body.get("max_tokens")
    bring_into_range(body, max_tokens, least_top_p=_LEAST_TOP_P)
    for name in _INTERNAL:
        body.pop(name, None)
    if isinstance(extra := body.get("vllm_xargs"), dict):
        body["vllm_xargs"] = {name: value for name, value in extra.items() if name not in _INTERNAL}
    try:
        match call.api:
            case worker_pb2.API_CHAT_COMPLETIONS:
                _require(body, "messages")
                return ChatCompletionRequest.model_validate(body)
            case worker_pb2.API_MESSAGES:
                _check_messages(body)
                _bound(body, asked, max_tokens, reasons)
                return AnthropicMessagesRequest.model_validate(body)
            case worker_pb2.API_COUNT_TOKENS:
                _check_messages(body)
                return AnthropicCountTokensRequest.model_validate(body)
            case worker_pb2.API_RESPONSES:
                _require(body, "input")
                _refuse_state(body)
                return ResponsesRequest.model_validate({**body, "store": False, "background": False})
            case _:
                if not body.get("prompt_embeds"):
                    _require(body, "prompt")
                return CompletionRequest.model_validate(body)
    except ValidationError as error:
        raise failures.from_validation(error) from error
    except VLLMClientError as error:
        raise failures.from_exception(error) from error


def whole_reason(request: Request) -> str:
    """Why a transfer of the prompt's KV can't carry this request; empty where it can.

    The decode worker computes the last prompt token alone: what asks for results of the other prompt tokens, or for
    more than one sequence of the prompt, has to be computed in one place.
    """
    if not isinstance(request, ChatCompletionRequest | CompletionRequest):
        return ""
    if request.echo:
        return "echo"
    if request.prompt_logprobs is not None:
        return "prompt_logprobs"
    if request.use_beam_search:
        return "beam_search"
    if (request.n or 1) > 1 or (getattr(request, "best_of", None) or 1) > 1:
        return "n"
    if isinstance(request, CompletionRequest):
        if request.prompt_embeds is not None:
            return "prompt_embeds"
        if _several(request.prompt):
            return "several_prompts"
    return ""


def _several(prompt: Any) -> bool:
    """A list of texts or of token lists; a list of numbers is one prompt."""
    return isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("invalid request body: it is not JSON") from error
    if not isinstance(value, dict):
        raise InvalidRequest("invalid request body: it is not a JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _require(body: dict[str, Any], name: str) -> None:
    if body.get(name) in ("", []):
        raise InvalidRequest(f"{name} must not be empty", param=name)


def _check_messages(body: dict[str, Any]) -> None:
    """What vLLM's Messages would find out too late, or never."""
    _require(body, "messages")
    choice, tools = body.get("tool_choice"), body.get("tools")
    if not isinstance(choice, dict) or choice.get("type") not in ("any", "tool"):
        return
    if not tools:
        raise InvalidRequest("tool_choice: needs tools", param="tool_choice")
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if choice["type"] == "tool" and choice.get("name") not in names:
        raise InvalidRequest("tool_choice: names a tool that is not among tools", param="tool_choice")


def _bound(body: dict[str, Any], asked: object, max_tokens: int, reasons: bool) -> None:
    """Brings thinking under the platform's cap, as the answer was.

    A budget that fitted the answer that was asked for must not be refused because that was clamped. Where no budget
    can be kept, the model thinks as it does: clients send a budget to any model.
    """
    if asked is None:
        body["max_tokens"] = asked = max_tokens
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled" or not is_number(asked):
        return
    budget = thinking.get("budget_tokens")
    if not is_number(budget) or not _LEAST_BUDGET <= budget < asked:
        return
    room = body["max_tokens"] - 1
    if not reasons or room < _LEAST_BUDGET:
        body["thinking"] = {"type": "adaptive"}
    else:
        body["thinking"] = {**thinking, "budget_tokens": min(budget, room)}


def _refuse_state(body: dict[str, Any]) -> None:
    for name in _STATEFUL:
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: {STATELESS}", param=name)
    items = body.get("input")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") == "item_reference":
            raise InvalidRequest(f"input: an item_reference can't be looked up: {STATELESS}", param="input")
