"""From a client's JSON to vLLM's request: limits of the platform first, then vLLM's own validation.

Requirements 7.3 and 16.1: `max_tokens`, `temperature` and `top_p` are brought into range before vLLM sees them; all
else is as vLLM's server has it. Fields that would speak to the engine rather than to the model are dropped: a client
must not name KV to load, or addresses to load it from.
"""

import json
from typing import Any, Final, TypeAlias, TypeGuard

from pydantic import ValidationError
from tandem_proto.tandem.v1 import worker_pb2
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.exceptions import VLLMClientError

from tandem_engine.engine import Call
from tandem_engine.errors import InvalidRequest
from tandem_engine.vllm import failures

Request: TypeAlias = ChatCompletionRequest | CompletionRequest

_INTERNAL: Final = ("kv_transfer_params", "ec_transfer_params", "request_id")
_LEAST_TOP_P: Final = 1e-6
"""vLLM takes (0, 1]; so small a share keeps the likeliest token alone, which is what 0 means."""


def parse(call: Call, *, max_tokens: int) -> Request:
    """A request that vLLM has validated.

    Args:
        call: as it came.
        max_tokens: the platform's cap: more is clamped, never refused.

    Raises:
        InvalidRequest: with the text that a client gets.
    """
    body = _object(call.body)
    _clamp(body, max_tokens)
    for name in _INTERNAL:
        body.pop(name, None)
    if isinstance(extra := body.get("vllm_xargs"), dict):
        body["vllm_xargs"] = {name: value for name, value in extra.items() if name not in _INTERNAL}
    chat = call.api == worker_pb2.API_CHAT_COMPLETIONS
    _require_prompt(body, chat)
    try:
        return ChatCompletionRequest.model_validate(body) if chat else CompletionRequest.model_validate(body)
    except ValidationError as error:
        raise failures.from_validation(error) from error
    except VLLMClientError as error:
        raise failures.from_exception(error) from error


def whole_reason(request: Request) -> str:
    """Why a transfer of the prompt's KV can't carry this request; empty where it can.

    The decode worker computes the last prompt token alone: what asks for results of the other prompt tokens, or for
    more than one sequence of the prompt, has to be computed in one place.
    """
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


def _clamp(body: dict[str, Any], max_tokens: int) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        if _number(value := body.get(name)):
            if value <= 0:
                raise InvalidRequest(f"{name} must be at least 1, not {value}", param=name)
            body[name] = min(value, max_tokens)
    if _number(value := body.get("temperature")):
        if value < 0:
            raise InvalidRequest(f"temperature must be at least 0, not {value}", param="temperature")
        body["temperature"] = min(value, 2.0)
    if _number(value := body.get("top_k")) and value < -1:
        raise InvalidRequest(f"top_k must be at least 0, or -1 for off, not {value}", param="top_k")
    if _number(value := body.get("top_p")):
        body["top_p"] = min(max(value, _LEAST_TOP_P), 1.0)


def _number(value: object) -> TypeGuard[float]:
    """What is no number is left for vLLM to refuse."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_prompt(body: dict[str, Any], chat: bool) -> None:
    if chat and body.get("messages") == []:
        raise InvalidRequest("messages must not be empty", param="messages")
    if not chat and body.get("prompt") in ("", []) and not body.get("prompt_embeds"):
        raise InvalidRequest("prompt must not be empty", param="prompt")
