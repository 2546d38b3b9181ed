"""What the operator says about a service: `status`."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tandem_api.inference_service.base import Spec, UniqueBy

Message = Annotated[str, Field(max_length=32768)]
Word = Annotated[str, Field(max_length=1024)]


class Condition(Spec):
    """One aspect of the service's state, as Kubernetes' own objects tell it."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Ready, PrefillReady, DecodeReady, RouterReady, ScalingReady, Progressing, Degraded."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Why, in one word for programs."""
    message: Message = ""
    """Why, and what to do, for people."""
    last_transition_time: Annotated[str, Field(max_length=64)] = ""
    """Since when, RFC 3339."""
    observed_generation: int = 0
    """The generation of the spec that this is about."""


class RoleStatus(Spec):
    """Workers of one role, over all versions."""

    replicas: int = 0
    """Workers that exist."""
    desired: int = 0
    """Workers that there should be."""
    ready: int = 0
    """Workers that routers can use."""
    selector: Word = ""
    """Label selector of the pods, for the scale subresource."""


class RevisionState(Spec):
    """Workers of a version that were started alike. Routers act on this."""

    name: Word
    disaggregated: bool = True
    """Whether prefill workers compute its prompts."""
    traffic: bool = True
    """Whether requests may begin on it; where not, those that run end in peace."""
    asked: Word = ""
    """A hash of what was asked for when it was made: the same again means this revision."""
    image: Word = ""
    """The image that its workers run, resolved once."""
    source: Word = ""
    """The source that its workers serve, resolved once."""


class VersionState(Spec):
    """One version as it is served. Routers act on its name, weight, revisions and `held`."""

    name: Word
    revision: Word = ""
    """The revision that is wanted: it serves, or comes up."""
    previous_revision: Word = ""
    """The revision that it replaces, while it does."""
    revisions: Annotated[tuple[RevisionState, ...], Field(max_length=16)] = ()
    """The revisions that exist, those that requests prefer first."""
    held: bool = False
    """No pair is left for a moment, as a rollout with maxSurge 0 demands, and one is to come: requests wait for it."""
    weight: int | None = None
    """Percent of the traffic that it is to have."""
    effective_weight: int = 0
    """Percent of the traffic that is really served."""
    share_moved_to: Annotated[tuple[Word, ...], Field(max_length=16)] = ()
    """The versions that have its share while it is not ready."""
    prefill: RoleStatus | None = None
    """Its prefill workers."""
    decode: RoleStatus | None = None
    """Its decode workers."""


class Summary(Spec):
    """What `kubectl get` shows."""

    versions: Word = ""
    """`v1=90 v2=10`."""
    prefill: Word = ""
    """Ready and desired: `1/1`."""
    decode: Word = ""
    """Ready and desired: `1/1`."""


class InferenceServiceStatus(Spec):
    """What is. Written by the operator alone."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = 0
    """The generation of the spec that this is about."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=16),
        UniqueBy("type"),
    ] = ()
    """Ready is True when a request succeeds at this moment."""
    url: Word = ""
    """Where clients reach the model: the router's base URL."""
    versions: Annotated[tuple[VersionState, ...], Field(max_length=32)] = ()
    """Each version, its revision and its traffic."""
    prefill: RoleStatus | None = None
    """Prefill workers of all versions."""
    decode: RoleStatus | None = None
    """Decode workers of all versions."""
    summary: Summary | None = None
    """The columns of `kubectl get`."""
