"""`VllmEngine`: vLLM behind the engine contract. Here is its life and what it holds; `calls` has what a call does.

vLLM is imported when the engine starts, not before: its environment is prepared first.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from tandem_api.worker import WorkerConfig
from tandem_proto.channels import Tls
from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.engine import Call, Counters, Facts, Outcome, Reply
from tandem_engine.errors import EngineDead, Unavailable
from tandem_engine.kv.client import KvClient
from tandem_engine.kv.leases import LeaseLimits
from tandem_engine.vllm import environment
from tandem_engine.vllm.holder import Holder

if TYPE_CHECKING:
    from tandem_engine.vllm.calls import Calls
    from tandem_engine.vllm.serving import Serving
    from tandem_engine.vllm.stats import Watch

ANSWER_SECONDS: Final = 30.0
"""How long the engine may take to answer a question: it does so between two steps, and one may take seconds."""


class VllmEngine:
    """See `tandem_engine.engine.Engine`. Usually made by `from_config`.

    Args:
        config: the worker's.
        model_dir: weights, tokenizer and configuration, as on the Hub.
        name: the worker's, as handles name it.
        host: the address at which other workers reach this one.
        tls: for KV transfer; None for plain.
        randomness: so many random bytes, for leases.
        clock: seconds, monotone and the system's: vLLM's own timestamps are set against it.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        model_dir: Path,
        name: str,
        host: str,
        tls: Tls | None = None,
        randomness: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._model_dir = model_dir
        self._name = name
        self._host = host
        self._tls = tls
        self._random = randomness
        self._clock = clock
        self._stack = AsyncExitStack()
        self._serving: Serving
        self._watch: Watch
        self._holder: Holder
        self._calls: Calls
        self._facts: Facts

    @classmethod
    def from_config(
        cls, config: WorkerConfig, *, model_dir: Path, name: str, host: str, tls: Tls | None = None
    ) -> "VllmEngine":
        """An engine with the system's randomness and clock."""
        return cls(
            config,
            model_dir=model_dir,
            name=name,
            host=host,
            tls=tls,
            randomness=secrets.token_bytes,
            clock=time.monotonic,
        )

    async def __aenter__(self) -> "VllmEngine":
        """Loads the model.

        Raises:
            ValueError: the configuration, the model, or its KV cache's layout is not supported; the text says why.
        """
        environment.prepare(self._config.tensor_parallel, self._host)
        from tandem_engine.vllm import arguments, calls, layouts, serving, stats

        args = await asyncio.to_thread(
            arguments.parse,
            self._config,
            model_dir=self._model_dir,
            host=self._host,
            tls=self._tls,
            cpu=environment.cpu_build(),
        )
        self._watch = stats.Watch(connector=self._config.disaggregated)
        async with AsyncExitStack() as stack:
            stack.enter_context(environment.sockets_folder())
            self._serving = await stack.enter_async_context(serving.Serving(args, self._watch, self._config.max_tokens))
            vllm_config = self._serving.config
            layout = await layouts.of_engine(self._serving.engine, self._config.disaggregated)
            prefill = self._config.disaggregated and self._config.role == "prefill"
            self._facts = Facts(
                name=serving.engine_name(),
                layout=layout,
                max_model_len=vllm_config.model_config.max_model_len,
                max_running=vllm_config.scheduler_config.max_num_seqs,
                total_blocks=vllm_config.cache_config.num_gpu_blocks,
                max_staged_bytes=self._config.kv_transfer.max_staged_bytes if prefill else 0,
            )
            limits = LeaseLimits(
                self._config.kv_transfer.max_staged_bytes,
                self._config.kv_transfer.max_fetches,
                self._config.kv_transfer.lease_ttl,
            )
            self._holder = await stack.enter_async_context(Holder(self._ask_workers, limits, self._random, self._clock))
            self._calls = calls.Calls(
                self._config,
                self._facts,
                self._serving,
                self._watch,
                self._holder,
                name=self._name,
                addresses=self._addresses(),
                clock=self._clock,
                keys=itertools.count(1),
                client=stack.enter_context(KvClient(self._tls)),
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def facts(self) -> Facts:
        return self._facts

    async def counters(self) -> Counters:
        """See the contract. Raises Unavailable where the engine does not answer."""
        transferring = self._config.disaggregated
        # The first question is answered behind all that was sent before, then the scheduler takes its step and
        # reports; the second answer comes behind that report.
        await self._ask_workers("tandem_counts")
        held = await self._ask_workers("tandem_counts")
        counted = self.load()
        if not transferring:
            return counted
        leases, staged, fetches = (list(column) for column in zip(*held, strict=True))
        return Counters(
            running=counted.running,
            waiting=counted.waiting,
            free_blocks=counted.free_blocks,
            leases=max(leases),
            staged_bytes=sum(staged),
            fetches=sum(fetches),
        )

    def load(self) -> Counters:
        load = self._watch.load
        held = self._holder.counts()
        blocks = self._facts.total_blocks - 1  # vLLM keeps one for itself
        return Counters(
            running=load.running,
            waiting=load.waiting,
            free_blocks=round(blocks * (1.0 - load.kv_usage)),
            leases=held.leases,
            staged_bytes=held.bytes,
            fetches=0,
        )

    def totals(self) -> Mapping[str, int]:
        return {**self._watch.totals, "leases_expired": self._holder.expired}

    async def check(self) -> None:
        await self._serving.check()

    async def prefill(self, call: Call) -> Outcome:
        return await self._calls.prefill(call)

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        return await self._calls.generate(call, reply)

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        return await self._holder.hand_on(lease)

    def release(self, lease: bytes) -> None:
        self._holder.release(lease)

    def _addresses(self) -> list[str]:
        """Of KvTransfer: each rank's; with NIXL the one where leases are kept."""
        ranks, port = self._config.tensor_parallel, self._config.ports.kv
        first, count = (port + ranks, 1) if self._config.kv_transfer.connector == "nixl" else (port, ranks)
        return [f"{self._host}:{first + n}" for n in range(count)]

    async def _ask_workers(self, method: str, *args: Any) -> list[Any]:
        """One answer of each rank.

        Raises:
            Unavailable: none came in time.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers: list[Any] = await self._serving.engine.collective_rpc(method, args=args)
        except Exception as error:
            if self._serving.engine.errored:
                raise EngineDead("the engine has stopped") from error
            raise Unavailable("the engine does not answer") from error
        return answers
