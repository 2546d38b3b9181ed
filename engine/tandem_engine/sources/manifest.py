"""`.tandem-source.json`: what a folder was fetched from. It is written last, so a folder that has one is complete."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tandem_engine.sources.naming import MANIFEST
from tandem_engine.sources.source import WrittenFile


class Manifest(BaseModel):
    """The content of a model folder.

    `source` is the URI as it was asked for, `resolved` the pinned one (for the Hub with the commit), `key` what decides
    the bytes.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str
    resolved: str
    key: str
    files: tuple[WrittenFile, ...]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, None where there is none or it can't be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write and sync it."""
    with (folder / MANIFEST).open("wb") as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def is_complete(folder: Path, key: str) -> bool:
    """Whether a folder holds this content, by its manifest and the sizes of its files. No byte is read again."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.key != key:
        return False
    try:
        return all((folder / file.name).stat().st_size == file.size for file in manifest.files)
    except OSError:
        return False
