"""The versions of a model that a service runs side by side."""

from typing import Annotated, Literal

from pydantic import Field

from tandem_api.inference_service.base import DnsLabel, Spec
from tandem_api.inference_service.engine import EngineSpec
from tandem_api.inference_service.kubernetes import LocalObjectReference
from tandem_api.inference_service.roles import RoleSpec
from tandem_api.inference_service.source import SourceUri


class VersionSpec(Spec):
    """A model and how it is run. Changing what its workers are started with makes a new revision of it."""

    name: DnsLabel
    """Unique among the versions: `v1`."""
    source: SourceUri
    """Where the model comes from: hf://org/name@revision, s3://bucket/prefix, pvc://claim/path, file:///path, ..."""
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

    def role(self, role: Literal["prefill", "decode"]) -> RoleSpec | None:
        """The role's own settings, if any."""
        return self.prefill if role == "prefill" else self.decode
