"""vLLM's engine with vLLM's own serving objects around it, without its HTTP server."""

import asyncio
import copy
from argparse import Namespace
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace, TracebackType
from typing import Any, Final

import vllm
from starlette.requests import Request as HttpRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.v1.engine.async_llm import AsyncLLM

from tandem_engine.vllm import failures, messages, responses
from tandem_engine.vllm.requests import Request
from tandem_engine.vllm.stats import Watch, watch_factory
from tandem_engine.vllm.tap import CallTap

SHUTDOWN_SECONDS: Final = 10.0
"""How long the engine's processes may take to end; then they are killed."""


def engine_name() -> str:
    """Kind and version."""
    return f"vllm {vllm.__version__}"


class Serving:
    """A running engine. A context manager: entering starts it, leaving ends its processes.

    Args:
        args: of `arguments.parse`.
        watch: gets the engine's statistics.
        max_tokens: the platform's cap on an answer's length.
    """

    def __init__(self, args: Namespace, watch: Watch, max_tokens: int) -> None:
        self._args = args
        self._max_tokens = max_tokens
        self._watch = watch
        self._state: Any = SimpleNamespace()
        self._engine: Any = None

    @property
    def engine(self) -> Any:
        """AsyncLLM, once entered."""
        return self._engine

    @property
    def config(self) -> Any:
        """VllmConfig, as the engine completed it."""
        return self._engine.vllm_config

    async def __aenter__(self) -> "Serving":
        engine_args = AsyncEngineArgs.from_cli_args(self._args)
        # Loading weights blocks: probes have to be answered meanwhile.
        self._engine = await asyncio.to_thread(
            AsyncLLM.from_engine_args, engine_args, stat_loggers=[watch_factory(self._watch)]
        )
        try:
            tasks = await self._engine.get_supported_tasks()
            if "generate" not in tasks:
                raise ValueError("the model does not generate text")
            await init_app_state(self._engine, self._state, self._args, tasks)
            for each in (
                self._state.openai_serving_chat,
                self._state.openai_serving_completion,
                self._state.openai_serving_responses,
                self._state.anthropic_serving_messages,
            ):
                # vLLM's own bound, which the model's folder may set: it holds for beams, too.
                each.override_max_tokens = min(each.override_max_tokens or self._max_tokens, self._max_tokens)
        except BaseException:
            self._engine.shutdown()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        # It would take the end of the engine's process for a failure.
        if self._engine.output_handler is not None:
            self._engine.output_handler.cancel()
        await asyncio.to_thread(self._engine.shutdown, SHUTDOWN_SECONDS)

    @property
    def by_priority(self) -> bool:
        """Whether the scheduler heeds priorities; otherwise vLLM refuses a request that has one."""
        return bool(self.config.scheduler_config.policy == "priority")

    @property
    def reasons(self) -> bool:
        """Whether the engine can tell thinking from the rest, and so bound it; otherwise vLLM refuses a budget."""
        reasoning = self.config.reasoning_config
        return bool(reasoning is not None and reasoning.enabled)

    @property
    def hashes_inputs(self) -> bool:
        """Whether vLLM names multimodal inputs by their content: it does so where it caches something by it."""
        cache = self.config.cache_config.enable_prefix_caching
        multimodal = self.config.model_config.multimodal_config
        return bool(cache or (multimodal is not None and multimodal.mm_processor_cache_gb > 0))

    async def render(self, request: Request) -> tuple[list[Any], Any]:
        """The prompts (EngineInput) of a request, and its LoRA request or None. Nothing is computed.

        Raises:
            CallError: the request is refused.
        """
        try:
            if isinstance(request, ResponsesRequest):
                serving = self._state.openai_serving_responses
                prompt = await responses.render(serving, request)
                if isinstance(prompt, ErrorResponse):
                    raise failures.from_response(prompt)
                return [prompt], serving._maybe_get_adapters(request)
            chat = self._state.openai_serving_chat
            if isinstance(request, AnthropicMessagesRequest | AnthropicCountTokensRequest):
                chat = self._state.anthropic_serving_messages
                request = await messages.as_chat(chat, request)
            if isinstance(request, ChatCompletionRequest):
                rendered = await chat.render_chat_request(request)
                if isinstance(rendered, ErrorResponse):
                    raise failures.from_response(rendered)
                return rendered[1], chat._maybe_get_adapters(request, supports_default_mm_loras=True)
            completion = self._state.openai_serving_completion
            prompts = await completion.render_completion_request(request)
            if isinstance(prompts, ErrorResponse):
                raise failures.from_response(prompts)
            return prompts, completion._maybe_get_adapters(request)
        except Exception as error:
            raise failures.from_exception(error) from error

    async def create(
        self, request: Request, tap: CallTap, headers: Mapping[str, str], response_id: str
    ) -> AsyncGenerator[str, None] | bytes:
        """VLLM's answer: SSE events for a stream, else the JSON body, with `response_id` as its id.

        Raises:
            CallError: the request is refused, or failed before its first event.
        """
        try:
            answer = await self._create(request, tap, headers, response_id)
        except Exception as error:
            raise failures.from_exception(error) from error
        _raise_if_cancelled()
        if isinstance(answer, ErrorResponse):
            raise failures.from_response(answer)
        return answer

    async def _create(
        self, request: Request, tap: CallTap, headers: Mapping[str, str], response_id: str
    ) -> AsyncGenerator[str, None] | bytes | ErrorResponse:
        state = self._state
        match request:
            case AnthropicMessagesRequest():
                http = _http({**headers, "x-request-id": response_id})
                return await messages.create(_tapped(state.anthropic_serving_messages, tap), request, http, response_id)
            case ResponsesRequest():
                http = _http({**headers, "x-request-id": response_id})
                return await responses.create(_tapped(state.openai_serving_responses, tap), request, http, response_id)
            case ChatCompletionRequest():
                prefix = "chatcmpl-"  # vLLM puts it before the id it is given
                create = _tapped(state.openai_serving_chat, tap).create_chat_completion
            case _:
                prefix = "cmpl-"
                create = _tapped(state.openai_serving_completion, tap).create_completion
        answer = await create(request, _http({**headers, "x-request-id": response_id.removeprefix(prefix)}))
        if isinstance(answer, ErrorResponse):
            return answer
        if isinstance(answer, AsyncGenerator):
            return answer if response_id.startswith(prefix) else _renamed(answer, prefix + response_id, response_id)
        answer.id = response_id
        answer.kv_transfer_params = None
        return bytes(answer.model_dump_json(), "utf-8")

    async def check(self) -> None:
        """Has the engine answer a question, which it does between two steps. It takes what a step takes.

        Raises:
            EngineDead: it will not answer any more.
        """
        try:
            await self._engine.check_health()
            await self._engine.is_paused()
        except Exception as error:
            raise failures.from_exception(error) from error


def _tapped(serving: Any, tap: CallTap) -> Any:
    """A serving object of one call."""
    own = copy.copy(serving)
    own.engine_client = tap
    return own


def _http(headers: Mapping[str, str]) -> HttpRequest:
    """What the serving classes read of an HTTP request: its headers, and `state` to leave notes in."""
    raw = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return HttpRequest({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw})


async def _renamed(events: AsyncGenerator[str, None], theirs: str, ours: str) -> AsyncGenerator[str, None]:
    async for event in events:
        yield event.replace(f'"id":"{theirs}"', f'"id":"{ours}"', 1)


def _raise_if_cancelled() -> None:
    """VLLM answers a cancelled call with an error object: the cancellation goes on instead."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
