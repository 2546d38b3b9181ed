"""Artifacts, the files in them, and uploads: the repository's half of the registry's API.

A file is uploaded by itself and known by its SHA-256. An artifact is a list of such files, made in one step when all
are there: until then nobody sees it.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, Protocol

from pydantic import Field

from tandem_api.inference_service.base import Matches, UniqueBy
from tandem_api.registry.base import Answer, Request, Sha256

Format = Literal["safetensors", "gguf"]
"""Of a model's weights."""

_FILE_PART = r"(\.[A-Za-z0-9_-]|[A-Za-z0-9_-])[A-Za-z0-9._+-]*"

FileName = Annotated[
    str,
    Field(min_length=1, max_length=255),
    Matches(
        f"{_FILE_PART}(/{_FILE_PART})*",
        "must be a relative path of letters, digits, '.', '_', '+' and '-', with '/' between its parts",
    ),
]


class NewUpload(Request):
    """POST /admin/v1/repository/uploads."""

    size: Annotated[int, Field(ge=0)]
    """Bytes of the whole file."""
    sha256: Sha256 | None = None
    """What the file is expected to be. Where the repository has that file already, the upload is complete at once."""


class Upload(Answer):
    """A file on its way. `PATCH` with `Upload-Offset: N` and the bytes from N on carries it on."""

    object: Literal["upload"] = "upload"
    id: str
    size: int
    offset: int
    """Bytes that are kept for good; what comes next starts here."""
    complete: bool
    sha256: str | None
    """Of the whole file once it is complete; before that what is expected."""
    expires_at: datetime | None
    """When an upload that nobody carries on is thrown away; None once it is complete."""


class NewFile(Request):
    """A file that has been uploaded, with its place in an artifact."""

    name: FileName
    sha256: Sha256


class NewArtifact(Request):
    """PUT /admin/v1/repository/models/{id}."""

    format: Format
    files: Annotated[tuple[NewFile, ...], UniqueBy("name"), Field(min_length=1, max_length=10_000)]
    digest: str | None = None
    """What `artifact_digest` of the files is expected to be."""


class ArtifactFile(Answer):
    """A file of an artifact; GET /admin/v1/repository/files/{sha256} has its bytes, ranges too."""

    name: str
    size: int
    sha256: str


class Artifact(Answer):
    """A model's files. It never changes."""

    object: Literal["model"] = "model"
    id: str
    format: Format
    size: int
    """Bytes of all files."""
    digest: str
    """`artifact_digest` of the files."""
    files: tuple[ArtifactFile, ...]
    """By name."""
    created_at: datetime
    created_by: str


class Deleted(Answer):
    """What a DELETE answers."""

    id: str
    object: str
    deleted: Literal[True] = True


class _File(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def artifact_digest(files: Iterable[_File]) -> str:
    """`sha256:` and the checksum of a listing as sha256sum writes it, sorted by name: equal for equal files."""
    lines = sorted((file.name, file.sha256) for file in files)
    listing = "".join(f"{sha256}  {name}\n" for name, sha256 in lines)
    return f"sha256:{hashlib.sha256(listing.encode()).hexdigest()}"
