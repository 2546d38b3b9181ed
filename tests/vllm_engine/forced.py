"""A model that says what it is told to: its text goes through vLLM's own parsers and serving classes by tokens."""

import copy
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from tandem_engine.engine import Call
from tandem_engine.vllm import VllmEngine
from tandem_engine.vllm.serving import Serving
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.outputs import CompletionOutput, RequestOutput

from tests.surfaces.transport import Answering, Recorder


class _Says:
    """An engine that says a text in the place of its own."""

    def __init__(self, engine: Any, text: str, end: str, stop: str | None) -> None:
        self._engine = engine
        self._text = text
        self._end = end
        self._stop = stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def abort(self, request_ids: Any) -> None:
        """Nothing runs."""

    async def generate(
        self, prompt: Any, params: Any, request_id: str, **_: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        tokenizer = self._engine.get_tokenizer() if hasattr(self._engine, "get_tokenizer") else None
        tokenizer = tokenizer or self._engine.renderer.get_tokenizer()
        tokens = tokenizer.encode(self._text, add_special_tokens=False)
        said = 0
        for count in range(1, len(tokens) + 1):
            whole = tokenizer.decode(tokens[:count], skip_special_tokens=False)
            last = count == len(tokens)
            # As vLLM's detokeniser does: a character comes when all its bytes are there.
            delta = "" if whole.endswith("\ufffd") and not last else whole[said:]
            said += len(delta)
            output = CompletionOutput(0, delta, [tokens[count - 1]], None, None)
            if last:
                output.finish_reason, output.stop_reason = self._end, self._stop
            yield RequestOutput(request_id, None, prompt["prompt_token_ids"], None, [output], last)


async def forced(
    engine: VllmEngine, text: str, *, reasoning_parser: str = "deepseek_r1", end: str = "stop", stop: str | None = None
) -> Answering:
    """Has calls answered with `text`, as if the model had said it and ended for the reason `end`."""
    calls = engine._calls
    args = copy.deepcopy(calls.serving._args)
    args.structured_outputs_config.reasoning_parser = reasoning_parser
    serving = Serving(args, calls.watch, 4096)
    serving._engine = _Says(calls.serving.engine, text, end, stop)
    await init_app_state(serving._engine, serving._state, args, await calls.serving.engine.get_supported_tasks())
    speaking = replace(calls, serving=serving)

    async def answer(call: Call, reply: Recorder) -> None:
        await speaking.generate(call, reply)

    return answer
