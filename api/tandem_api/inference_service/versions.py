"""The versions of a model that a service runs side by side."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tandem_api.inference_service.base import DnsLabel, Spec, cel, invalid
from tandem_api.inference_service.engine import EngineSpec
from tandem_api.inference_service.kubernetes import LocalObjectReference
from tandem_api.inference_service.roles import RoleSpec
from tandem_api.inference_service.source import SourceUri

_NO_SOURCE = "must have a source, such as hf://org/name@revision, where its engine is vllm"
_NO_PREFILL = "must have no prefill of its own where its engine is upstream or virtualModel: there is no KV to compute"


class VersionSpec(Spec):
    """A model and how it is run. Changing what its workers are started with makes a new revision of it."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.source) || (has(self.engine) && has(self.engine.type) && self.engine.type != 'vllm')",
                _NO_SOURCE,
            ),
            (
                "!has(self.prefill) || !has(self.engine) || !has(self.engine.type) || "
                "!(self.engine.type in ['upstream', 'virtualModel'])",
                _NO_PREFILL,
            ),
        )
    )

    name: DnsLabel
    """Unique among the versions: `v1`."""
    source: SourceUri | None = None
    """Where the model comes from: hf://org/name@revision, s3://bucket/prefix, pvc://claim/path, file:///path, ...
    Only the engine vllm needs one."""
    source_secret: LocalObjectReference | None = None
    """A Secret whose keys are environment variables while the model is fetched (HF_TOKEN, AWS_ACCESS_KEY_ID, ...).
    The worker itself does not get them."""
    engine: EngineSpec = EngineSpec()
    """What computes, and its arguments."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The workers' container image; absent: the installation's default for the engine."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When the image is pulled; absent: as Kubernetes decides by its tag."""
    weight: int | None = Field(None, ge=0, le=100)
    """Percent of the traffic. 100 for a single version; required for several; forbidden beside `experiment`."""
    prefill: RoleSpec | None = None
    """What differs from the service's `prefill`."""
    decode: RoleSpec | None = None
    """What differs from the service's `decode`."""

    @model_validator(mode="after")
    def _has_source(self) -> Self:
        if self.source is None and self.engine.fetches:
            raise invalid(_NO_SOURCE)
        return self

    @model_validator(mode="after")
    def _has_prefill_only_where_there_is_kv(self) -> Self:
        if self.prefill is not None and not self.engine.prefills:
            raise invalid(_NO_PREFILL)
        return self

    def role(self, role: Literal["prefill", "decode"]) -> RoleSpec | None:
        """The role's own settings, if any."""
        return self.prefill if role == "prefill" else self.decode
