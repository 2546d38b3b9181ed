"""Models, their versions, aliases, and which version is active."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tandem_api.inference_service.arguments import Arguments
from tandem_api.inference_service.base import invalid
from tandem_api.inference_service.source import SourceUri
from tandem_api.registry.base import Answer, ArtifactId, Digest, Label, Name, Note, Request
from tandem_api.registry.repository import Artifact, Format

_Number = Annotated[float, Field(allow_inf_nan=False)]


class NewModel(Request):
    """POST /admin/v1/registry/models."""

    name: Name
    description: Note = ""


class ChangeModel(Request):
    """PATCH /admin/v1/registry/models/{name}: what of a model may be changed directly."""

    description: Note


class Model(Answer):
    """A name under which versions are kept. Its ETag changes with all that is in here."""

    object: Literal["model"] = "model"
    name: str
    description: str
    active: str | None
    """The version that `registry://NAME` stands for."""
    aliases: dict[str, str]
    """By alias: the version."""
    created_at: datetime
    created_by: str


class EngineDefaults(Request):
    """What the `engine` of every service that runs a version has, where the service does not say otherwise."""

    args: Arguments = ()
    """Arguments of `vllm serve`. A service's own come after them, and so win."""


class NewVersion(Request):
    """POST /admin/v1/registry/models/{name}/versions: content is either somewhere else or in the repository."""

    name: Name
    source: SourceUri | None = None
    """Where workers fetch it: hf://, s3://, ... ; best pinned, so that the version stays what it is."""
    artifact: ArtifactId | None = None
    """An artifact of the repository."""
    digest: Digest | None = None
    """Of the content. Of an artifact it follows from its files, and has to agree if it is given."""
    format: Format | None = None
    """None: an artifact's own; else safetensors."""
    engine: EngineDefaults = EngineDefaults()
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=64)
    metrics: dict[Label, _Number] = Field(default_factory=dict, max_length=256)
    description: Note = ""

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        if (self.source is None) is (self.artifact is None):
            raise invalid("must have exactly one of source and artifact")
        if self.source is not None and self.source.startswith("registry://"):
            raise invalid("must have a source outside of the registry: name the artifact in place of registry://")
        return self


class Version(Answer):
    """A version. It never changes but for its being active, aliased or used."""

    object: Literal["model.version"] = "model.version"
    model: str
    name: str
    source: str | None
    artifact: str | None
    digest: str | None
    format: Format
    engine: EngineDefaults
    labels: dict[str, str]
    metrics: dict[str, float]
    description: str
    created_at: datetime
    created_by: str
    active: bool
    aliases: tuple[str, ...]
    used_by: tuple[str, ...]
    """What holds it: services that run it (`PUT .../uses/{holder}`)."""


class Activate(Request):
    """POST /admin/v1/registry/models/{name}/activate."""

    version: Name
    reason: Note = ""
    by: Note = ""
    """Who wants it; empty: the key's id. The key's id is kept in any case."""


class Rollback(Request):
    """POST /admin/v1/registry/models/{name}/rollback: back to what was active before the active version."""

    reason: Note = ""
    by: Note = ""


class Activation(Answer):
    """An entry of a model's history."""

    object: Literal["model.activation"] = "model.activation"
    number: int
    """From 1 on, in the order of what happened."""
    kind: Literal["activate", "rollback"]
    version: str
    former: str | None
    """The version that was active until then."""
    at: datetime
    by: str
    key: str
    """The key that asked for it."""
    reason: str


class SetAlias(Request):
    """PUT /admin/v1/registry/models/{name}/aliases/{alias}."""

    version: Name


class Use(Answer):
    """PUT /admin/v1/registry/models/{name}/versions/{version}/uses/{holder}: keeps the version from being deleted."""

    model: str
    version: str
    holder: str
    at: datetime


class Resolution(Answer):
    """GET /admin/v1/registry/resolve?source=registry://...: what a source stands for at this moment."""

    uri: str
    """The source with the version in it and its content's digest, if known: it stands for the same content for ever."""
    model: str
    version: str
    activation: int | None
    """The history's entry by which the version is active; None where the source names a version or alias."""
    source: str | None
    """Where the content is; None: in the repository."""
    digest: str | None
    format: Format
    engine: EngineDefaults
    artifact: Artifact | None
    """The files in the repository."""
