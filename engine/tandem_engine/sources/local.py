"""`file:///path` and `pvc://claim/path`: what lies on this machine's disks already.

A folder is used where it is: the target becomes a link to it, nothing is copied. A single GGUF file is converted to
safetensors once, or handed over as it is with `?load=gguf`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tandem_engine.sources.digests import sha256_of
from tandem_engine.sources.errors import Changed, InvalidUri, NotFound
from tandem_engine.sources.gguf import ConvertedGguf, PlainGguf
from tandem_engine.sources.modelfolder import check_model_folder
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import InPlace, Work


@dataclass(frozen=True)
class FileSource:
    """A folder, or a GGUF file with how to load it and, once it is pinned, its SHA-256."""

    path: Path
    load: str | None = None
    sha256: str | None = None

    @classmethod
    def parse(cls, uri: str) -> "FileSource":
        """Read `file:///folder`, `file:///model.gguf` or `file:///model.gguf?load=gguf`.

        Raises:
            InvalidUri: it is none of them.
        """
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute() or parts.fragment:
            raise InvalidUri(f"{uri!r} is not of the form file:///absolute/path (three slashes).")
        source = cls(path, query.pop("load", None), query.pop("sha256", None))
        if query or source.load not in (None, "gguf") or (source.load and path.suffix != ".gguf"):
            raise InvalidUri(f"{uri!r}: the one parameter is ?load=gguf, for a file that ends with .gguf.")
        return source

    def resolve(self, work: Work) -> InPlace | ConvertedGguf | PlainGguf:
        """Check the folder, or take the checksum of the file, which its conversion is cached by.

        Raises:
            NotFound: there is nothing at the path.
            NotAModel: the folder lacks something.
            Changed: the file is not the one that was pinned.
        """
        if self.path.suffix == ".gguf" and self.path.is_file():
            work.report(Progress("check", f"checksum of {self.path.name}"))
            sha256 = sha256_of(self.path)
            if self.sha256 not in (None, sha256):
                raise Changed(f"{self.path} is not the file that was pinned. Resolve its URI again.")
            kind = PlainGguf if self.load == "gguf" else ConvertedGguf
            query = f"?load=gguf&sha256={sha256}" if self.load else f"?sha256={sha256}"
            return kind(self.path.as_uri() + query, self.path, sha256)
        if self.path.is_file():
            raise InvalidUri(f"{self.path} is a file. Name the model's folder, or a file that ends with .gguf.")
        if not self.path.exists():
            raise NotFound(f"There is nothing at {self.path}. In a pod, its volume has to be mounted at the same path.")
        check_model_folder(self.path, self.path.as_uri())
        return InPlace(self.path.as_uri(), self.path)


@dataclass(frozen=True)
class PvcSource:
    """A folder of a PersistentVolumeClaim that is mounted at `mount`."""

    claim: str
    path: str
    mount: Path | None

    @classmethod
    def parse(cls, uri: str, mount: Path | None) -> "PvcSource":
        """Read `pvc://claim/path`; the path may be empty.

        Raises:
            InvalidUri: it is not of that form, or climbs out of the claim.
        """
        match = re.fullmatch(r"pvc://(?P<claim>[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(/(?P<path>[^?#]*))?", uri)
        path = (match["path"] or "").strip("/") if match else ""
        if match is None or ".." in path.split("/"):
            raise InvalidUri(f"{uri!r} is not of the form pvc://claim/path, with the path inside of the claim.")
        return cls(match["claim"], path, mount)

    def resolve(self, work: Work) -> InPlace:
        """Check the folder.

        Raises:
            InvalidUri: nobody said where the claim is mounted.
            NotAModel: the folder is missing or lacks something.
        """
        uri = f"pvc://{self.claim}/{self.path}".rstrip("/")
        if self.mount is None:
            raise InvalidUri(f"{uri} needs --mount: the folder that the claim {self.claim} is mounted at.")
        folder = self.mount / self.path
        check_model_folder(folder, uri)
        return InPlace(uri, folder)
