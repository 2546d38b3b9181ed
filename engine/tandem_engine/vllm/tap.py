"""A tap between vLLM's serving classes and its engine, one for each call.

The serving classes turn a request into a prompt and the engine's outputs into the wire format. What Tandem has to know
and to add passes in the middle: the prompt's token ids before anything is computed, and the engine's outputs before
they are text.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from tandem_proto.tandem.v1 import worker_pb2
from vllm.sampling_params import RequestOutputKind

from tandem_engine.vllm.stats import CallStats


class CallTap:
    """Stands in for the engine client in a serving object of one call; all but `generate` is the engine's own.

    Args:
        engine: AsyncLLM.
        admit: sees each prompt and its LoRA request before the engine does, and returns its kv_transfer_params; may
            raise, which refuses the call.
        clock: seconds, monotone, the system's.
        begun: told once, when the first token is there; where a request has several choices, when the first is whole.
    """

    def __init__(
        self,
        engine: Any,
        admit: Callable[[Any, Any], Mapping[str, Any]],
        clock: Callable[[], float],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._admit = admit
        self._clock = clock
        self._tell_begun = begun
        self._open: set[str] = set()
        self._generated: dict[tuple[str, int], int] = {}
        self._prompts: dict[str, tuple[int, int]] = {}
        self._begun = clock()
        self._first_step = 0.0
        self._first_token = 0.0
        self.finish_reason = ""
        """The engine's, of the first choice."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, prompt: Any, sampling_params: Any, request_id: str, **options: Any) -> AsyncGenerator[Any, None]:
        """As EngineClient.generate; `admit` runs at once, before the first output is asked for."""
        if params := self._admit(prompt, options.get("lora_request")):
            sampling_params.extra_args = {**(sampling_params.extra_args or {}), "kv_transfer_params": dict(params)}
        whole = sampling_params.output_kind == RequestOutputKind.FINAL_ONLY and sampling_params.n == 1
        if whole:
            # Asked for the end alone, vLLM is silent until then: so it says the first token, and then all the rest.
            sampling_params.output_kind = RequestOutputKind.DELTA
            sampling_params.stream_interval = sys.maxsize
        outputs = self._follow(request_id, self._engine.generate(prompt, sampling_params, request_id, **options))
        return _joined(outputs) if whole else outputs

    async def abort(self) -> None:
        """Aborts what has not ended. A generator that vLLM dropped half-read would abort only when it is collected."""
        if self._open:
            await self._engine.abort(sorted(self._open))
            self._open.clear()

    def usage(self, stats: CallStats | None) -> worker_pb2.Usage:
        """So far, over all prompts and choices. `stats`: the engine's own count, where a connector keeps one."""
        prompt = sum(tokens for tokens, _ in self._prompts.values())
        cached = sum(tokens for _, tokens in self._prompts.values())  # what was loaded is among it
        return worker_pb2.Usage(
            prompt_tokens=prompt,
            completion_tokens=sum(self._generated.values()),
            cached_tokens=max(0, cached - (stats.external if stats else 0)),
            computed_tokens=stats.computed if stats else prompt - cached,
        )

    def timings(self) -> worker_pb2.Timings:
        """Since the tap was made, in microseconds."""
        return worker_pb2.Timings(
            queued_micros=self._since(self._first_step),
            first_token_micros=self._since(self._first_token),
            total_micros=self._since(self._clock()),
        )

    def _since(self, moment: float) -> int:
        return max(0, round((moment - self._begun) * 1e6)) if moment else 0

    async def _follow(self, request_id: str, outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        self._open.add(request_id)
        async for output in outputs:
            self._note(request_id, output)
            if output.finished:
                self._open.discard(request_id)
            yield output

    def _note(self, request_id: str, output: Any) -> None:
        if not self._first_token:
            self._first_token = self._clock()
            self._first_step = output.metrics.scheduled_ts if output.metrics else 0.0
        self._prompts[request_id] = (len(output.prompt_token_ids or ()), output.num_cached_tokens or 0)
        if not any(self._generated.values()) and any(choice.token_ids for choice in output.outputs):
            self._tell_begun()
        for choice in output.outputs:
            # Streams bring what is new, other calls all at the end: either way they add up.
            key = (request_id, choice.index)
            self._generated[key] = self._generated.get(key, 0) + len(choice.token_ids)
            if choice.finish_reason and choice.index == 0 and not self.finish_reason:
                self.finish_reason = choice.finish_reason


async def _joined(outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """All outputs as one, when they are over."""
    whole = None
    async for output in outputs:
        if whole is None:
            whole = output
        else:
            whole.add(output, aggregate=True)
    if whole is not None:
        yield whole
