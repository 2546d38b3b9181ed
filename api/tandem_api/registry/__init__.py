"""What goes over the registry's HTTP API, `/admin/v1/*`: models and their versions, artifacts, keys, outcomes.

The registry answers with these shapes; the command line, workers, routers and the operator read them. Members are in
snake case and lists have the form of OpenAI's, for the API stands beside OpenAI's on the same router. Errors are of
OpenAI's shape, too (`tandem_api.openai.errors`).
"""

from tandem_api.registry.base import Page
from tandem_api.registry.keys import IssuedKey, Key, KeyLimits, KeySnapshot, NewKey, Scope, SnapshotKey, key_digest
from tandem_api.registry.models import (
    Activate,
    Activation,
    ChangeModel,
    EngineDefaults,
    Model,
    NewModel,
    NewVersion,
    Resolution,
    Rollback,
    SetAlias,
    Use,
    Version,
)
from tandem_api.registry.outcomes import NewOutcome, Outcome
from tandem_api.registry.repository import (
    Artifact,
    ArtifactFile,
    Deleted,
    Format,
    NewArtifact,
    NewFile,
    NewUpload,
    Upload,
    artifact_digest,
)

__all__ = [
    "Activate",
    "Activation",
    "Artifact",
    "ArtifactFile",
    "ChangeModel",
    "Deleted",
    "EngineDefaults",
    "Format",
    "IssuedKey",
    "Key",
    "KeyLimits",
    "KeySnapshot",
    "Model",
    "NewArtifact",
    "NewFile",
    "NewKey",
    "NewModel",
    "NewOutcome",
    "NewUpload",
    "NewVersion",
    "Outcome",
    "Page",
    "Resolution",
    "Rollback",
    "Scope",
    "SetAlias",
    "SnapshotKey",
    "Upload",
    "Use",
    "Version",
    "artifact_digest",
    "key_digest",
]
