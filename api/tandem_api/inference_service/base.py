"""The base of all manifest types: camelCase on the wire, snake_case in Python, nothing unknown accepted.

Each type says its rules twice, side by side: as Python, for manifests read from files, and as CEL, for the API server
that reads the CRD made of these types (`tandem_api.crd`).
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Spec(BaseModel):
    """Frozen: a manifest is a value."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """JSON schema extras of CEL rules, given as pairs of an expression over `self` and the message of its violation."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def invalid(must: str) -> PydanticCustomError:
    """What a validator raises; `must` goes on after "found X; ", as in "must be a name"."""
    return PydanticCustomError("tandem", "{must}", {"must": must})


@dataclass(frozen=True, slots=True)
class Matches:
    """Annotates a string that a regular expression (of both Python's and RE2's language) describes wholly."""

    pattern: str
    must: str
    """Says the pattern in words: "must be ..."."""
    explained: bool = False
    """The API server says `must` too, by a CEL rule; else it cites the pattern, which costs it less."""

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise invalid(self.must)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        whole = f"^(?:{self.pattern})$"
        made.update(cel((f"self.matches(r'{whole}')", self.must)) if self.explained else {"pattern": whole})
        return made


DnsLabel = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Matches(
        "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit",
    ),
]
"""Names that become part of the names of Services (RFC 1123)."""

DnsName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Matches(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "must be a DNS name: lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or "
        "digit",
    ),
]
"""Names of most Kubernetes objects: a DNS subdomain (RFC 1123)."""

Text = Annotated[str, Field(max_length=1024)]
"""Free text, bounded: an API server admits CEL rules only over what has bounds."""

LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
"""A label's or annotation's key: an optional DNS prefix and a name."""

LabelValue = Annotated[
    str,
    Field(max_length=63),
    Matches(
        "([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?",
        "must be a label's value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    ),
]
"""A label's value."""

Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]
"""Labels, as on any Kubernetes object."""
