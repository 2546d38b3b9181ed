"""The resource itself: `InferenceService` of tandem.dev/v1alpha1."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from tandem_api.inference_service.base import Matches, Spec, UniqueBy, cel
from tandem_api.inference_service.experiment import ExperimentSpec
from tandem_api.inference_service.kubernetes import ObjectMeta
from tandem_api.inference_service.roles import RoleSpec
from tandem_api.inference_service.rollout import RolloutSpec
from tandem_api.inference_service.routing import KvTransferSpec, RoutingSpec
from tandem_api.inference_service.rules import CEL, Problem, problems
from tandem_api.inference_service.status import InferenceServiceStatus
from tandem_api.inference_service.versions import VersionSpec

GROUP: Final = "tandem.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "InferenceService"

ModelName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matches(
        "[A-Za-z0-9]([A-Za-z0-9._:/-]*[A-Za-z0-9])?",
        "must be a model's name: letters, digits, '.', '_', ':', '/' and '-', beginning and ending with a letter or "
        "digit",
    ),
]


class InferenceServiceSpec(Spec):
    """A model, the versions of it that are served, and the workers that serve them."""

    model_config = ConfigDict(json_schema_extra=cel(*CEL))

    model: ModelName | None = None
    """The name that clients use; absent: the resource's. It can't be changed."""
    versions: Annotated[
        tuple[VersionSpec, ...],
        Field(min_length=1, max_length=16),
        UniqueBy("name"),
    ]
    """One, or several that share the traffic."""
    prefill: RoleSpec | None = None
    """Workers that compute the prompts' KV caches. Absent: decode workers serve alone (aggregated serving)."""
    decode: RoleSpec
    """Workers that generate the answers."""
    kv_transfer: KvTransferSpec = KvTransferSpec()
    """How KV caches move from prefill to decode workers."""
    routing: RoutingSpec = RoutingSpec()
    """How requests find workers."""
    rollout: RolloutSpec = RolloutSpec()
    """How workers of a changed version replace the former ones."""
    experiment: ExperimentSpec | None = None
    """Two versions compared by what they do, in place of weights."""

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if found := tuple(dict.fromkeys(problems(self))):
            raise BrokenRules(found)
        return self

    def role(self, role: Literal["prefill", "decode"]) -> RoleSpec | None:
        """The role's settings, if the service has it."""
        return self.prefill if role == "prefill" else self.decode


def BrokenRules(found: tuple[Problem, ...]) -> PydanticCustomError:  # noqa: N802 - reads as the error it makes
    """All problems between fields at once, in the error's context under "problems"."""
    text = "; ".join(f"{problem.where}: {problem.message}" for problem in found)
    return PydanticCustomError("tandem_rules", "{text}", {"text": text, "problems": found})


class InferenceService(Spec):
    """A large language model, served by prefill and decode workers.

    The smallest useful one names a version's source and a number of decode workers; defaults do the rest.
    """

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
                "metadata.name must be a DNS label of at most 63 characters: names of Services are made of it",
            )
        )
    )

    api_version: Literal["tandem.dev/v1alpha1"]
    kind: Literal["InferenceService"]
    metadata: ObjectMeta
    spec: InferenceServiceSpec
    """What is wanted."""
    status: InferenceServiceStatus | None = None
    """What is; written by the operator."""

    @property
    def model(self) -> str:
        """The name that clients use."""
        return self.spec.model or self.metadata.name

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def version(self, name: str) -> VersionSpec:
        """A version by its name.

        Raises:
            KeyError: there is none of that name.
        """
        for version in self.spec.versions:
            if version.name == name:
                return version
        raise KeyError(name)
