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
    registered: Word = ""
    """The registered version that it is, as name/version; empty: its source is none of the registry's."""
    registered_args: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)] = ()
    """Arguments of the engine that the registered version brings along; the manifest's own follow them, and so win."""


class VersionState(Spec):
    """One version as it is served. Routers act on its name, weight, revisions and `held`."""

    name: Word
    revision: Word = ""
    """The revision that is wanted: it serves, or comes up."""
    previous_revision: Word = ""
    """The revision that it replaces, while it does."""
    follows: Word = ""
    """The source of the registry that was asked for."""
    registered: Word = ""
    """The registered version that it stands for, as name/version."""
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


class MetricState(Spec):
    """What is known of one metric of an experiment. Outcomes run from 0 (good) to 1 (bad)."""

    name: Word
    champion: float | None = None
    """Mean outcome: the share of bad requests, or of what a perfect score lacks."""
    challenger: float | None = None
    """The same of the challenger; absent before its first."""
    low: float = -1.0
    """The difference, challenger - champion, is above this, at all times together with probability 1 - alpha ..."""
    high: float = 1.0
    """... and below this."""
    harm: float = 1.0
    """E-value against "no worse than the margin"."""
    benefit: float = 1.0
    """E-value against "worse than the margin"."""
    missing: int | None = None
    """Outcomes of the challenger that it will probably still take to show benefit; absent: nothing points there."""


class ExperimentState(Spec):
    """The experiment as it stands. Routers act on its id."""

    id: Word
    """Of its spec and both revisions: it salts the split, and a change of these is another experiment."""
    champion: Word
    challenger: Word
    phase: Literal["Waiting", "Running", "Paused", "RolledBack", "Promoted"] = "Waiting"
    """RolledBack and Promoted are ends, and stay."""
    reason: Word = ""
    """Why, in one word for programs."""
    step: int = 0
    """The step that it is in, from 0."""
    steps: int = 0
    """How many there are; 0: a shadow."""
    since: float = 0.0
    """When the step began or, at an end, when that was decided: Unix seconds."""
    weight: int = 0
    """Percent of the traffic that the challenger is to have."""
    metric: Word = ""
    """The metric that has shown harm."""
    champion_requests: int = 0
    challenger_requests: int = 0
    harm_from: float = 0.0
    """The e-value of harm that decides."""
    benefit_from: float = 0.0
    """The e-value of benefit that decides, of every metric."""
    metrics: Annotated[tuple[MetricState, ...], Field(max_length=16)] = ()
    time: float = 0.0
    """When this was written: Unix seconds."""
    command: Word = ""
    """The annotation tandem.dev/experiment that was last obeyed."""


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
    experiment: ExperimentState | None = None
    """The experiment of the spec."""
    prefill: RoleStatus | None = None
    """Prefill workers of all versions."""
    decode: RoleStatus | None = None
    """Decode workers of all versions."""
    summary: Summary | None = None
    """The columns of `kubectl get`."""
