"""Names that come from elsewhere: they must stay inside of the folder they are written to."""

import hashlib
import re
from pathlib import PurePosixPath

from tandem_engine.sources.errors import UnsafeName

MANIFEST = ".tandem-source.json"


def safe_name(name: str, uri: str) -> str:
    """Return a file name of a remote unchanged if it is a plain relative path.

    Raises:
        UnsafeName: it is absolute, climbs with "..", has empty parts, backslashes or control characters, is too long
            for a file system, or is the name of this package's own manifest.
    """
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") or len(part.encode()) > 250 for part in parts)
        or "\\" in name
        or not name.isprintable()
        or PurePosixPath(name).is_absolute()
        or parts[0] == MANIFEST
    ):
        raise UnsafeName(
            f"{uri} holds a file with the unsafe name {name!r}: names must be relative paths inside of the model's "
            "folder. Do not use this source, or remove the file from it."
        )
    return name


def entry_name(key: str) -> str:
    """The folder of some content in a cache: readable, and different for different keys."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", key).strip("-.")[:80]
    return f"{readable}-{short_hash(key)}"


def short_hash(key: str) -> str:
    """Twelve hexadecimal digits of a key's SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
