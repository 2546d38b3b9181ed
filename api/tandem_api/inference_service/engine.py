"""What computes: the `engine` of a version."""

from typing import Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.arguments import Arguments
from tandem_api.inference_service.base import Spec, cel, invalid
from tandem_api.inference_service.quantities import Duration
from tandem_api.inference_service.upstream import UpstreamSpec
from tandem_api.inference_service.virtual_model import VirtualModelEngineSpec


class VirtualFaults(Spec):
    """Failures to rehearse, each as the percentage of KV transfers that it strikes."""

    corrupt_staged: int = Field(0, ge=0, le=100)
    """KV is damaged before it is staged: nothing can notice, and the answer is another. For tests of Tandem itself."""
    corrupt_wire: int = Field(0, ge=0, le=100)
    """KV is damaged on its way: it is refused and computed again."""
    refuse: int = Field(0, ge=0, le=100)
    """The holder refuses to hand KV out."""
    lose: int = Field(0, ge=0, le=100)
    """The holder drops KV before anybody fetches it."""


class VirtualEngineSpec(Spec):
    """How the virtual engine behaves: continuous batching in steps, in simulated or real time, without a GPU."""

    slots: int = Field(64, ge=1)
    """Sequences that run side by side."""
    token_budget: int = Field(2048, ge=1)
    """Tokens of one step, prompt chunks and decode steps together."""
    prefill_token_time: Duration = 0.0001
    """Time that a prompt token adds to its step."""
    decode_step_time: Duration = 0.02
    """Time that a step with at least one decoding sequence takes, whatever their number."""
    blocks: int = Field(4096, ge=1)
    """Blocks of the paged KV cache."""
    block_size: int = Field(32, ge=1)
    """Tokens of a block."""
    bytes_per_token: int = Field(1024, ge=1)
    """KV bytes of one token, over all layers."""
    max_model_len: int = Field(32768, ge=2)
    """Tokens of prompt and answer together."""
    answer_tokens: int = Field(64, ge=1)
    """Mean length of an answer that ends by itself; each answer's own length follows from prompt and seed."""
    seed: int = 0
    """Of everything that varies, beside the request's own seed."""
    faults: VirtualFaults = VirtualFaults()
    """Failures to rehearse."""


_NO_UPSTREAM: Final = "must have upstream.endpoints where its type is upstream"
_NO_MODEL: Final = "must have virtualModel where its type is virtualModel"


class EngineSpec(Spec):
    """The engine and its arguments."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.type) || self.type != 'upstream' || has(self.upstream)", _NO_UPSTREAM),
            ("!has(self.type) || self.type != 'virtualModel' || has(self.virtualModel)", _NO_MODEL),
        )
    )

    type: Literal["vllm", "virtual", "upstream", "virtualModel"] = "vllm"
    """`vllm` computes; `virtual` simulates; `upstream` asks servers that you run; `virtualModel` says fixed words."""
    args: Arguments = ()
    """Arguments of `vllm serve`, as on its command line: `--max-model-len=32768`."""
    virtual: VirtualEngineSpec = VirtualEngineSpec()
    """Of the virtual engine; read where `type` is `virtual` and in a rehearsal."""
    upstream: UpstreamSpec | None = None
    """Of the upstream engine: its servers."""
    virtual_model: VirtualModelEngineSpec | None = None
    """Of the engine virtualModel: the model."""

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Self:
        if self.type == "upstream" and self.upstream is None:
            raise invalid(_NO_UPSTREAM)
        if self.type == "virtualModel" and self.virtual_model is None:
            raise invalid(_NO_MODEL)
        return self

    @property
    def fetches(self) -> bool:
        """Workers need the model's weights."""
        return self.type == "vllm"

    @property
    def prefills(self) -> bool:
        """Workers can compute KV for others."""
        return self.type in ("vllm", "virtual")
