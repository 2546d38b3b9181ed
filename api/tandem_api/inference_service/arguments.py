"""Arguments of `vllm serve` that Tandem sets itself, and what to write in their place.

An engine argument that contradicts the plan would fail in ways that are hard to read (a worker that listens elsewhere,
a transfer that moves nothing), so it is refused where it is written.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from tandem_api.inference_service.base import cel, invalid

_PODS: Final = "a worker is one pod"
_HTTP: Final = "workers have no HTTP server; the router has"

OWNED: Final[dict[str, str]] = {
    "--model": "use the version's `source`",
    "--revision": "write it into the version's `source`: hf://org/name@revision",
    "--download-dir": "use `modelCache`",
    "--hf-token": "use the version's `sourceSecret`",
    "--served-model-name": "use `spec.model`",
    "--kv-transfer-config": "use `spec.kvTransfer`",
    "--tensor-parallel-size": "use `parallelism.tensor` of the role",
    "-tp": "use `parallelism.tensor` of the role",
    "--data-parallel-size": f"use `replicas` of the role: {_PODS}",
    "-dp": f"use `replicas` of the role: {_PODS}",
    "--pipeline-parallel-size": f"use `parallelism.tensor`: {_PODS}",
    "-pp": f"use `parallelism.tensor`: {_PODS}",
    "--nnodes": _PODS,
    "-n": _PODS,
    "--node-rank": _PODS,
    "-r": _PODS,
    "--master-addr": _PODS,
    "--headless": _PODS,
    "--config": "write the arguments out, so that a changed one makes a new revision",
    "--api-key": "clients show their keys to the router",
    "--host": _HTTP,
    "--port": _HTTP,
    "--uds": _HTTP,
    "--root-path": _HTTP,
    "--middleware": _HTTP,
    "--ssl-keyfile": _HTTP,
    "--ssl-certfile": _HTTP,
    "--ssl-ca-certs": _HTTP,
    "--api-server-count": _HTTP,
    "-asc": _HTTP,
    "--worker-extension-cls": "Tandem's own is loaded",
}
"""By flag: what to do instead, or why it makes no sense here."""


def _check(argument: str) -> str:
    # As vLLM's own parser reads them: underscores are dashes, and a dot leads into a JSON value.
    flag = argument.partition("=")[0].partition(".")[0].replace("_", "-")
    if (instead := OWNED.get(flag)) is not None:
        raise invalid(f"must not set {flag}, which Tandem sets itself: {instead}")
    return argument


_SPELLINGS: Final = sorted({*OWNED, *(f"--{flag[2:].replace('-', '_')}" for flag in OWNED if flag.startswith("--"))})

Arguments = Annotated[
    tuple[Annotated[str, Field(max_length=4096), AfterValidator(_check)], ...],
    Field(
        max_length=64,
        json_schema_extra=cel(
            (
                # Not by a regular expression: one for all flags costs more than an API server allows.
                f"!self.exists(a, {_SPELLINGS}.exists(f, a == f || a.startsWith(f + '=') || a.startsWith(f + '.')))",
                "must hold none that Tandem sets itself: use source, spec.model, spec.kvTransfer or parallelism.tensor",
            )
        ),
    ),
]
"""Arguments of `vllm serve`, none of which Tandem owns."""
