"""Where a model comes from: the `source` of a version.

A source is a URI. This module knows what well-formed ones look like; fetching them is the workers' business.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from tandem_api.inference_service.base import cel, invalid

Scheme = Literal["hf", "file", "pvc", "s3", "bundled", "registry"]

_PART: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"
# What follows a path or name is how to load it, or what `python -m tandem_engine.sources resolve` pinned.
_PATTERNS: Final[dict[Scheme, str]] = {
    "hf": rf"hf://(?P<authority>{_PART})/(?P<path>{_PART})(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?",
    "file": r"file://(?P<path>/[^\x00?#]+)(\?load=gguf(&sha256=[0-9a-f]{64})?|\?sha256=[0-9a-f]{64})?",
    "pvc": r"pvc://(?P<authority>[a-z0-9][a-z0-9.-]*)(/(?P<path>[^\x00?#]+))?",
    "s3": r"s3://(?P<authority>[a-z0-9][a-z0-9.-]+)/(?P<path>[^\x00?#]+)(\?pin=[0-9a-f]{32})?",
    "bundled": r"bundled://(?P<authority>smollm2-135m)(@[0-9][0-9A-Za-z.]*)?",
    "registry": rf"registry://(?P<authority>{_PART})(/(?P<path>{_PART})|@(?P<revision>{_PART}))?(\?sha256=[0-9a-f]{{64}})?",
}
_SHAPES: Final = (
    "must be one of hf://org/name@revision, file:///path, pvc://claim/path, s3://bucket/prefix, "
    "registry://name/version, registry://name, registry://name@alias, bundled://smollm2-135m"
)
_CLIMBS: Final = "must not hold '..' in its path"


@dataclass(frozen=True, slots=True)
class Source:
    """A source in its parts."""

    scheme: Scheme
    authority: str
    """Organisation, claim, bucket or name; empty for `file`."""
    path: str = ""
    """The repository's name, or a path; absolute for `file`, else without a leading slash. Of `registry`: the version;
    empty: the active one, or that of the alias."""
    revision: str = ""
    """Of `hf`: a branch, tag or commit; empty: the main branch. Of `registry`: an alias."""

    @classmethod
    def parse(cls, uri: str) -> "Source":
        """Reads a URI.

        Raises:
            PydanticCustomError: it is not a well-formed source; the text says which are.
        """
        scheme = uri.partition("://")[0]
        for known in get_args(Scheme):
            if scheme == known and (match := re.fullmatch(_PATTERNS[known], uri)) is not None:
                parts = {name: part or "" for name, part in match.groupdict().items()}
                if ".." in parts.get("path", "").split("/"):
                    raise invalid(_CLIMBS)
                return cls(known, parts.get("authority", ""), parts.get("path", ""), parts.get("revision", ""))
        raise invalid(_SHAPES)


def _well_formed(uri: str) -> str:
    Source.parse(uri)
    return uri


_ANY: Final = re.sub(r"\(\?P<\w+>", "(", "|".join(_PATTERNS.values())).replace(r"\x00", "")

SourceUri = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=cel((f"self.matches(r'^(?:{_ANY})$')", _SHAPES), (r"!self.matches(r'/\.\.(/|$)')", _CLIMBS)),
    ),
    AfterValidator(_well_formed),
]
"""A URI that `Source.parse` reads."""
