"""Processes for vLLM's engines, forked from one that has imported vLLM: the import is most of what a start takes.

As with spawned ones, nothing of this process is in them but its environment: none of its threads, sockets or objects.
A worker's program spawns its engine (tests/conservation, tests/end_to_end, tests/cli/test_demo.py start such).
"""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final

import pytest

from tests.loopback import free_port

_IMPORTED: Final = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor", "vllm.v1.worker.cpu_worker")
"""None of them imports grpc, whose locks do not outlive a fork."""
_STARTERS: Final = ("vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor")
"""The modules that start processes."""


class _Process(ForkServerProcess):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._environ: dict[str, str] = {}

    def start(self) -> None:
        self._environ = {**os.environ, "VLLM_PORT": str(free_port(4))}  # else any that is free, bound later
        super().start()

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self._environ)
        with pytest.MonkeyPatch.context() as patch:  # ranks are started by the engine's process
            fork_prepared(patch)
            super().run()


class _Context(ForkServerContext):
    Process = _Process


def fork_prepared(patch: pytest.MonkeyPatch) -> None:
    """From here on, vLLM starts its processes so."""
    context = _Context()
    multiprocessing.set_forkserver_preload(list(_IMPORTED))
    for module in _STARTERS:
        patch.setattr(f"{module}.get_mp_context", lambda: context)
