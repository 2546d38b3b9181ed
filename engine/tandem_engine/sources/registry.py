"""`registry://NAME/VERSION`, `registry://NAME` and `registry://NAME@ALIAS`: what the model registry has or knows of.

The registry says what a source stands for at this moment. Files of its repository are fetched one by one, by their
SHA-256, and kept under the digest of all of them: a version that is registered twice is fetched once. A GGUF file is
converted, as those of other sources are. A version whose content is elsewhere is fetched from there.

`TANDEM_REGISTRY_URL` says where the registry (or a router, which relays) is, `TANDEM_REGISTRY_KEY` or
`TANDEM_REGISTRY_KEY_FILE` holds the key for it.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from tandem_api.inference_service.source import Source as SourceParts
from tandem_api.registry import Resolution, artifact_digest

from tandem_engine.sources.downloading import download, retrying
from tandem_engine.sources.errors import (
    AccessDenied,
    Changed,
    ConversionFailed,
    InvalidUri,
    NotFound,
    SourceError,
    Transient,
    Unreachable,
)
from tandem_engine.sources.gguf import ConvertedGguf
from tandem_engine.sources.naming import safe_name
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import Body, Content, InPlace, RemoteFile, Source, Work, WrittenFile


@dataclass(frozen=True)
class RegistrySource:
    """A model of the registry, with a version or not, pinned or not."""

    uri: str
    _open: Callable[[str], Source]
    """Opens the source of a version whose content is elsewhere."""

    @classmethod
    def parse(cls, uri: str, open_source: Callable[[str], Source]) -> "RegistrySource":
        """Read `registry://NAME`, `registry://NAME/VERSION`, `registry://NAME@ALIAS`, or what `resolve` made of it.

        Args:
            uri: The source.
            open_source: Opens the sources that versions of the registry may name.

        Raises:
            InvalidUri: it is none of them.
        """
        try:
            SourceParts.parse(uri)
        except PydanticCustomError:
            raise InvalidUri(
                f"{uri!r} is not registry://NAME, registry://NAME/VERSION or registry://NAME@ALIAS."
            ) from None
        return cls(uri, open_source)

    def resolve(self, work: Work) -> InPlace | Content:
        """Ask the registry what it stands for. A pinned one says so itself: then the registry need not be there at all.

        Raises:
            NotFound: there is no such model, version or alias, or no version of it is active.
        """
        _, pinned, sha256 = self.uri.partition("?sha256=")
        if pinned:
            return RegistryContent(self.uri, f"sha256:{sha256}")
        work.report(Progress("resolve", self.uri))
        registry = _Registry.of(work)
        found = retrying(work, lambda: registry.resolve(self.uri))
        if found.artifact is not None:
            return RegistryContent(found.uri, found.artifact.digest)
        if not found.source or found.source.startswith(("registry://", "pvc://")):
            raise InvalidUri(f"{found.uri}: a version of the registry can't be at {found.source!r}. Register another.")
        return self._open(found.source).resolve(work)


@dataclass(frozen=True)
class RegistryContent:
    """The files of an artifact."""

    uri: str
    key: str
    """Their digest: equal files are kept once, whatever they are called."""

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Fetch them; each is checked against its SHA-256, and the list of them against the digest.

        Raises:
            Changed: the version has other content than it was pinned to.
            ConversionFailed: it is no GGUF file that could be converted.
        """
        registry = _Registry.of(work)
        found = retrying(work, lambda: registry.resolve(self.uri))
        if found.artifact is None or artifact_digest(found.artifact.files) != self.key:
            raise Changed(f"{self.uri}: the registry lists other files than those of {self.key}. Resolve it again.")
        files = [
            RemoteFile(safe_name(file.name, self.uri), file.size, {"sha256": file.sha256}, version=file.sha256)
            for file in found.artifact.files
        ]
        if found.artifact.format == "gguf":
            return self._converted(_Store(registry), files, folder, work)
        return download(_Store(registry), files, folder, work, self.uri)

    def _converted(
        self, store: "_Store", files: Sequence[RemoteFile], folder: Path, work: Work
    ) -> tuple[WrittenFile, ...]:
        weights = [file for file in files if file.name.endswith(".gguf")]
        if len(weights) != 1:
            raise ConversionFailed(f"{self.uri} has {len(weights)} GGUF files. Merge them, and register the one file.")
        # A conversion begins with an empty folder; what was fetched before it broke off need not be fetched again.
        beside = folder.with_name(f"{folder.name}.gguf")
        beside.mkdir(exist_ok=True)
        download(store, files, beside, work, self.uri)
        made = ConvertedGguf(self.uri, beside / weights[0].name, weights[0].version).write(folder, work)
        shutil.rmtree(beside)
        return made


@dataclass(frozen=True)
class _Registry:
    """Where the registry is, and how to ask it."""

    url: str
    key: str
    timeout: float

    @classmethod
    def of(cls, work: Work) -> "_Registry":
        url = work.environ.get("TANDEM_REGISTRY_URL", "").rstrip("/")
        if not re.fullmatch(r"https?://[^\s/@]+(/[^\s?#@]*)?", url):
            raise SourceError(
                "TANDEM_REGISTRY_URL does not say where the registry is. Set it to http://host:port (and no key in it)."
            )
        return cls(url, _key(work.environ), work.timeout)

    @property
    def host(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    def resolve(self, uri: str) -> Resolution:
        """What a source stands for."""
        with self._asked("/admin/v1/registry/resolve", uri, params={"source": uri}) as answer:
            answer.read()
            try:
                return Resolution.model_validate_json(answer.content)
            except ValidationError as error:
                raise SourceError(
                    f"{self.host} does not answer as a registry does. Check TANDEM_REGISTRY_URL."
                ) from error

    @contextmanager
    def file(self, file: RemoteFile, start: int) -> Iterator[httpx.Response]:
        """The bytes of a file from `start` on."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._asked(f"/admin/v1/repository/files/{file.version}", file.name, headers=headers) as answer:
            yield answer

    @contextmanager
    def _asked(
        self, path: str, what: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """An answer of status 2xx; anything else is one of our errors. They quote neither key nor address."""
        given = {"Accept-Encoding": "identity", **(headers or {})}
        if self.key:
            given["Authorization"] = f"Bearer {self.key}"
        try:
            with httpx.stream(
                "GET", self.url + path, params=params, headers=given, timeout=self.timeout, follow_redirects=False
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._failed(answer, what)
                yield answer
        except httpx.TransportError as error:
            raise Transient(f"the registry at {self.host} does not answer ({type(error).__name__})") from error

    def _failed(self, answer: httpx.Response, what: str) -> Exception:
        status = answer.status_code
        said = f"{what}: {_message(answer) or f'the registry at {self.host} answered {status}'}"
        if status >= 500 or status in (408, 429):
            with contextlib.suppress(ValueError):
                return Transient(said, max(0.0, float(answer.headers.get("retry-after", "0"))))
            return Transient(said)
        if status in (401, 403):
            return AccessDenied(f"{said}. Check TANDEM_REGISTRY_KEY.")
        if status == 409 and "digest" in said:
            return Changed(f"{said}. Resolve the source again.")
        if status in (404, 409):
            return NotFound(f"{said}.")
        return SourceError(f"{said}. Check TANDEM_REGISTRY_URL.")


@dataclass(frozen=True)
class _Store:
    registry: _Registry

    @contextmanager
    def open(self, file: RemoteFile, start: int) -> Iterator[Body]:
        with self.registry.file(file, start) as answer:
            begins = start if answer.status_code == 206 else 0
            # As they come: pieces of a fixed size would lose what is in the last one when the line is cut.
            yield Body(begins, answer.iter_raw())


def _message(answer: httpx.Response) -> str:
    """The error's text, if it is one of the registry's."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _key(environ: Mapping[str, str]) -> str:
    path = environ.get("TANDEM_REGISTRY_KEY_FILE", "")
    try:
        key = Path(path).read_text().strip() if path else environ.get("TANDEM_REGISTRY_KEY", "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreachable(f"TANDEM_REGISTRY_KEY_FILE can't be read: {path}. Mount the Secret there.") from error
    if not re.fullmatch(r"[!-~]*", key):
        raise AccessDenied("The registry's key holds characters that no key has. Copy it again.")
    return key
