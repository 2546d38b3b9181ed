"""The bases of all shapes of the registry, and the names in them."""

from typing import Annotated, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from tandem_api.inference_service.base import Matches


class Request(BaseModel):
    """What a client sends: frozen, and nothing unknown is accepted, so that a typo is no silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Answer(BaseModel):
    """What the registry answers: frozen, and readers of earlier releases pass over members that they do not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


T = TypeVar("T")


class Page(Answer, Generic[T]):
    """A part of a list."""

    object: Literal["list"] = "list"
    data: tuple[T, ...]
    next_cursor: str | None = None
    """Given back as `?cursor=`, it leads to the next part. None: this was the last one."""


PART: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"

Name = Annotated[
    str,
    Field(min_length=1, max_length=128),
    Matches(PART, "must be a name: letters, digits, '.', '_' and '-', beginning with a letter or digit"),
]
"""Of a model, version, alias or key: one part of a path."""

ArtifactId = Annotated[
    str,
    Field(min_length=1, max_length=255),
    Matches(
        f"{PART}(/{PART})*",
        "must be parts of letters, digits, '.', '_' and '-', each beginning with a letter or digit, joined by '/'",
    ),
]
"""Of an artifact: `org/name` and deeper."""

Sha256 = Annotated[str, Matches("[0-9a-f]{64}", "must be a SHA-256: 64 lower-case hexadecimal digits")]

Digest = Annotated[
    str,
    Field(max_length=160),
    Matches("[a-z0-9-]+:[0-9A-Za-z=_-]+", "must be an algorithm and a value, such as sha256:4f0c..."),
]

_PLAIN = Matches(r"[^\x00]*", "must not hold NUL characters")

Label = Annotated[str, Field(max_length=128), _PLAIN]

Note = Annotated[str, Field(max_length=1024), _PLAIN]
"""Free text of people: a reason, a description, a name."""
