"""A folder of a model into the repository: file by file, each known by its SHA-256, carried on after any break.

Files that the repository has are not sent. One that was begun, by this call or one before it, goes on where it stopped.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
from tandem_api.registry import Artifact, Format, NewArtifact, NewFile, NewUpload, Upload

from tandem_cli.failing import Failed
from tandem_cli.registry import REPOSITORY, Away, Registry, checked, refusal

_PIECE: Final = 1 << 20
_ATTEMPTS: Final = 6
"""In a row without a byte gained, before an upload is given up."""
_SLOW: Final = httpx.Timeout(60.0, connect=5.0, read=900.0, write=900.0)
"""Before an upload goes on, the registry reads what it has once more."""


class Meter(Protocol):
    """Whom to tell how far it is."""

    def begin(self, what: str, total: int) -> None:
        """A step of so many bytes begins."""
        ...

    def at(self, done: int) -> None:
        """So many bytes of it are done."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to be uploaded."""

    name: str
    path: Path
    size: int


def files_of(folder: Path) -> tuple[Format, tuple[LocalFile, ...]]:
    """The format and the files of a model's folder, or of one GGUF file; what is hidden is left out.

    Raises:
        Failed: there are no weights.
    """
    if folder.is_file():
        paths = {folder.name: folder}
    else:
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        paths = {path.relative_to(folder).as_posix(): path for path in found}
    paths = {name: path for name, path in paths.items() if not any(part.startswith(".") for part in name.split("/"))}
    files = tuple(LocalFile(name, path, path.stat().st_size) for name, path in paths.items())
    if any(file.name.endswith(".safetensors") for file in files):
        return "safetensors", files
    if any(file.name.endswith(".gguf") for file in files):
        return "gguf", files
    raise Failed(f"{folder} holds no weights (*.safetensors or *.gguf)", "name the folder of a model, or a GGUF file")


def upload_model(
    registry: Registry,
    id: str,
    form: Format,
    files: Sequence[LocalFile],
    meter: Meter,
    sleep: Callable[[float], None] = time.sleep,
) -> Artifact:
    """Uploads what the repository lacks, and makes an artifact of all.

    Raises:
        Failed: the registry refuses, or stays away.
    """
    digests = {file.name: _digest(file, meter) for file in files}
    for file in files:
        _FileUpload(registry, file, digests[file.name], meter, sleep).run()
    given = NewArtifact(format=form, files=tuple(NewFile(name=file.name, sha256=digests[file.name]) for file in files))
    return registry.send(Artifact, "PUT", f"{REPOSITORY}/models/{id}", given)


def _digest(file: LocalFile, meter: Meter) -> str:
    meter.begin(f"checksum of {file.name}", file.size)
    hasher = hashlib.sha256()
    done = 0
    with file.path.open("rb") as content:
        while piece := content.read(_PIECE):
            hasher.update(piece)
            done += len(piece)
            meter.at(done)
    return hasher.hexdigest()


class _FileUpload:
    """One file, over as many connections as it takes."""

    def __init__(
        self, registry: Registry, file: LocalFile, sha256: str, meter: Meter, sleep: Callable[[float], None]
    ) -> None:
        self._registry = registry
        self._file = file
        self._sha256 = sha256
        self._meter = meter
        self._sleep = sleep

    def run(self) -> None:
        """Until the repository has the file.

        Raises:
            Failed: it is refused, or the registry stays away.
        """
        self._meter.begin(f"upload {self._file.name}", self._file.size)
        upload = self._patiently(self._begin)
        failures = 0
        id = upload.id
        while not upload.complete:
            reached = upload.offset
            try:
                upload = self._send(upload)
            except (httpx.TransportError, Away):
                upload = self._patiently(lambda: self._look(id))
            failures = 0 if upload.offset > reached else failures + 1
            if failures >= _ATTEMPTS:
                raise Failed(
                    f"{self._file.name}: the upload does not get beyond {reached:,} of {self._file.size:,} bytes",
                    "run the same command again later: it goes on there",
                )
        self._meter.at(self._file.size)

    def _patiently(self, ask: Callable[[], Upload]) -> Upload:
        """Asks again while the registry is away."""
        for attempt in range(_ATTEMPTS):
            try:
                return ask()
            except (httpx.TransportError, Away):
                if attempt == _ATTEMPTS - 1:
                    raise
                self._sleep(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _begin(self) -> Upload:
        given = NewUpload(size=self._file.size, sha256=self._sha256)
        return self._registry.send(Upload, "POST", f"{REPOSITORY}/uploads", given)

    def _look(self, id: str) -> Upload:
        return self._registry.get(Upload, f"{REPOSITORY}/uploads/{id}")

    def _send(self, upload: Upload) -> Upload:
        with self._pieces(upload.offset) as pieces:
            answer = self._registry.client.patch(
                f"{REPOSITORY}/uploads/{upload.id}",
                content=pieces,
                headers={"Upload-Offset": str(upload.offset), "Content-Type": "application/octet-stream"},
                timeout=_SLOW,
            )
        code, _ = ("", "") if answer.is_success else refusal(answer)
        if code in ("offset_mismatch", "upload_stalled") or answer.status_code in (502, 503, 504):
            self._sleep(0.5)
            return self._look(upload.id)
        return self._registry.read(Upload, checked(answer))

    @contextmanager
    def _pieces(self, offset: int) -> Iterator[Iterator[bytes]]:
        """The file's bytes from an offset on."""
        with self._file.path.open("rb") as content:
            content.seek(offset)

            def read() -> Iterator[bytes]:
                done = offset
                while piece := content.read(_PIECE):
                    yield piece
                    done += len(piece)
                    self._meter.at(done)

            yield read()
