"""The two platforms that tests storm at, and the weather of each: virtual engines, and real vLLM with a tiny model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tandem_api.inference_service import EngineSpec, KvTransferSpec, RoutingSpec, VirtualEngineSpec
from tandem_api.inference_service.engine import VirtualFaults
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes, WorkerEndpoint
from tandem_api.worker import WorkerConfig

from tests.conservation.platform import LocalPlatform, WorkerProgram
from tests.conservation.shots import Weather
from tests.loopback import free_host

LEASE_TTL = {"virtual": 6.0, "vllm": 10.0}
"""Longer than a process is held up on a busy machine: where nothing disturbs a storm, no lease may end by it."""
STAGED_BYTES = {"virtual": 2**20, "vllm": 2**23}
"""A few prompts: storms meet the limit."""

WEATHER = Weather(
    shots=(4, 12),
    span=0.02,
    prompt_words=(1, 120),
    max_tokens=(1, 24),
    kills=0.01,
    stops=0.0015,
    stalls=0.005,
    asks=200,
    endless_tokens=8000,
)
"""Each storm is over in some tens of milliseconds, but for the few that kill or stop a worker, or stall."""

VIRTUAL = VirtualEngineSpec(
    slots=8,
    token_budget=512,
    prefill_token_time=1e-5,
    decode_step_time=0.003,
    blocks=512,
    block_size=16,
    seed=7,
    faults=VirtualFaults(refuse=5, lose=5, corrupt_wire=5),
)
"""Few slots and blocks, so that storms make requests wait for both; and KV that is refused, lost or damaged."""

VLLM_WEATHER = Weather(
    shots=(3, 8),
    span=0.3,
    prompt_words=(1, 120),
    max_tokens=(1, 16),
    kills=0.1,
    stops=0.0,
    stalls=0.08,
    asks=24,
    endless_tokens=1200,
)

VLLM_ARGS = ("--max-model-len=2048", "--max-num-seqs=4", "--kv-cache-memory-bytes=67108864", "--seed=0")


def virtual_platform(
    folder: Path,
    *,
    prefill: int = 2,
    decode: int = 2,
    argv: Mapping[str, Sequence[str]] | None = None,
    router_argv: Sequence[str] = ("-m", "tandem_router"),
) -> LocalPlatform:
    """`argv` gives a role's program in place of its own: for planted faults."""
    engine = EngineSpec(type="virtual", virtual=VIRTUAL)
    roles = ["prefill"] * prefill + ["decode"] * decode
    return _platform(folder, roles, engine, None, argv or {}, router_argv=router_argv)


def vllm_platform(folder: Path, model: Path) -> LocalPlatform:
    """One worker of each role: a killed one leaves the other without its partner until it is back."""
    engine = EngineSpec(type="vllm", args=VLLM_ARGS)
    return _platform(folder, ["prefill", "decode"], engine, model, {}, start_seconds=240)


def _platform(
    folder: Path,
    roles: list[str],
    engine: EngineSpec,
    model: Path | None,
    argv: Mapping[str, Sequence[str]],
    **options: Any,
) -> LocalPlatform:
    programs = [
        WorkerProgram(f"{role}-{index}", free_host(), _config(role, engine), model, argv.get(role, ()))
        for index, role in enumerate(roles)
    ]
    workers = tuple(
        WorkerEndpoint(name=p.name, role=p.config.role, address=f"{p.host}:{p.config.ports.grpc}") for p in programs
    )
    revision = RevisionEndpoints(name="r1", disaggregated=True, workers=workers)
    versions = (VersionRoutes(name="v1", weight=100, revisions=(revision,)),)
    service = ServiceRoutes(name="storm", namespace="default", model="storm", routing=RoutingSpec(), versions=versions)
    return LocalPlatform(folder, programs, Topology(services=(service,)), **options)


def _config(role: str, engine: EngineSpec) -> WorkerConfig:
    return WorkerConfig.model_validate(
        {
            "role": role,
            "service": "default/storm",
            "model": "storm",
            "version": "v1",
            "revision": "r1",
            "engine": engine,
            "kv_transfer": KvTransferSpec(lease_ttl=LEASE_TTL[engine.type], max_staged_bytes=STAGED_BYTES[engine.type]),
        }
    )
