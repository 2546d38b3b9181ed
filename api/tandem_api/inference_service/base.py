"""The base of all manifest types: camelCase on the wire, snake_case in Python, nothing unknown accepted.

Each type says its rules twice, side by side: as Python, for manifests read from files, and as CEL, for the API server
that reads the CRD made of these types (`tandem_api.crd`).
"""

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Spec(BaseModel):
    """Frozen: a manifest is a value."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Has each field described by the docstring below it.

        As `use_attribute_docstrings`, which reads them at every import: a tenth of what it takes a program to start.
        """
        made = handler(schema)
        properties = handler.resolve_ref_schema(made).get("properties", {})
        for name, text in descriptions(cls).items():
            properties[name].setdefault("description", text)
        return made


def descriptions(of: type[BaseModel]) -> dict[str, str]:
    """By a field's name in a manifest: the docstring below it, in the class or in one that it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(of.__mro__):
        if not issubclass(kind, Spec):
            continue
        (defined,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        for field, below in pairwise(defined.body if isinstance(defined, ast.ClassDef) else ()):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = inspect.cleandoc(text)
    return {field.alias or name: found[name] for name, field in of.model_fields.items() if name in found}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for an API server: an expression over `self`, in CEL, and what is said where it does not hold."""

    expression: str
    message: str
    says: str = ""
    """An expression for a message with values in it; `message` stands in where it fails."""
    at: str = ""
    """The field to blame: `.versions`."""

    def schema(self) -> dict[str, str]:
        """As a CRD's schema writes it."""
        fields = {
            "rule": self.expression,
            "message": self.message,
            "messageExpression": self.says,
            "fieldPath": self.at,
        }
        return {name: text for name, text in fields.items() if text}


def cel(*rules: Rule | tuple[str, str]) -> dict[str, Any]:
    """JSON schema extras of rules; a pair is an expression and its message."""
    whole = (rule if isinstance(rule, Rule) else Rule(*rule) for rule in rules)
    return {"x-kubernetes-validations": [rule.schema() for rule in whole]}


def count(*fields: str) -> str:
    """An expression for how many of these optional fields are given."""
    return " + ".join(f"(has(self.{field}) ? 1 : 0)" for field in fields)


def invalid(must: str) -> PydanticCustomError:
    """What a validator raises; `must` goes on after "found X; ", as in "must be a name"."""
    return PydanticCustomError("tandem", "{must}", {"must": must})


@dataclass(frozen=True, slots=True)
class Matches:
    """Annotates a string that a regular expression (of both Python's and RE2's language) describes wholly."""

    pattern: str
    must: str
    """Says the pattern in words: "must be ..."."""

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise invalid(self.must)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class UniqueBy:
    """Annotates a list whose items differ in a field: to an API server, a map that is written as a list."""

    field: str

    def check(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        first: dict[Any, int] = {}
        for index, item in enumerate(items):
            key = getattr(item, self.field)
            if first.setdefault(key, index) != index:
                raise invalid(
                    f"must not have two items of one {self.field}: [{first[key]}] and [{index}] both have {key!r}"
                )
        return items

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        key = to_camel(self.field)
        return handler(schema) | {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


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
