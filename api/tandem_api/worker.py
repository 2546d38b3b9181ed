"""What a worker is told when it starts: the file that the plan renders into a ConfigMap and a worker reads.

Paths never stand in it: they come as arguments and environment variables, which the runner of the local platform can
map to folders of its own.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tandem_api.inference_service import EngineSpec, KvTransferSpec


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Ports(_Strict):
    """Ports of a worker, the same in every pod."""

    grpc: int = 9000
    """The worker protocol."""
    health: int = 9001
    """`grpc.health.v1` alone, always plain: a kubelet's probe speaks no TLS."""
    metrics: int = 9002
    """Prometheus text over HTTP at /metrics."""
    kv: int = 9100
    """KvTransfer of tensor-parallel rank 0; rank n serves kv + n."""


class WorkerConfig(_Strict):
    """One worker's configuration."""

    role: Literal["prefill", "decode"]
    service: str
    """namespace/name of the InferenceService."""
    model: str
    """The name that clients use."""
    version: str
    revision: str
    engine: EngineSpec
    tensor_parallel: int = Field(1, ge=1)
    kv_transfer: KvTransferSpec
    disaggregated: bool = True
    """False for plain aggregated serving: no prefill role exists, and a decode worker loads no connector."""
    ports: Ports = Ports()
    max_tokens: int = Field(8192, ge=1)
    """Cap on a request's max_tokens (and max_completion_tokens): larger values are clamped, never refused."""
    max_body_bytes: int = Field(10 * 2**20, ge=1)
    max_waiting: int = Field(256, ge=0)
    """Calls that wait in the worker beside those the engine runs; one more is refused as OVERLOADED."""
    grace_seconds: float = Field(60.0, ge=0)
    """How long open calls may go on after SIGTERM."""
    reflection: bool = False
    """Whether the gRPC port serves reflection, for tools such as grpcurl."""
