"""pydantic's errors in words for people who write manifests."""

import difflib
import json
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tandem_api.inference_service.base import descriptions
from tandem_api.inference_service.rules import Location
from tandem_api.inference_service.service import InferenceService

_MUST: Final[Mapping[str, str]] = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields",
    "greater_than_equal": "must be {ge} or more",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be {le} or less",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or fewer",
    "too_short": "must have {min_length} or more",
    "too_long": "must have {max_length} or fewer",
    "tandem": "{must}",
}
_SHOWN: Final = 60
"""Characters of a value that are shown."""


def location_of(error: ErrorDetails) -> Location:
    """The field to blame. pydantic marks an error of a mapping's key by a last part of its own."""
    return tuple(part for part in error["loc"] if part != "[key]")


def wording(error: ErrorDetails, root: type[BaseModel] = InferenceService) -> str:
    """What is wrong with a document that `root` describes, what was found, and what would be right."""
    location, context = location_of(error), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"is not a field here{_instead(location, root)}"
        case "missing":
            return f"is missing{_purpose(location, root)}"
        case "literal_error":
            allowed = _allowed(location, root)
            return f"found {shown(error['input'])}: must be {_listed(allowed)}{_closest(error['input'], allowed)}"
        case "string_type" if isinstance(error["input"], bool | int | float):
            quoted = json.dumps(str(shown(error["input"])))
            return f"found {shown(error['input'])}: must be text; write it in quotes: {quoted}"
        case kind:
            must = _MUST[kind].format(**context) if kind in _MUST else error["msg"]
            # A rule between fields is about the mapping that holds them, which need not be shown.
            between = kind == "tandem" and isinstance(error["input"], Mapping)
            return must if between else f"found {shown(error['input'])}: {must}"


def meant(location: Location, root: type[BaseModel] = InferenceService) -> Location | None:
    """The field that an unknown one was probably meant to be."""
    model = model_at(location[:-1], root)
    if model is None or not (close := difflib.get_close_matches(str(location[-1]), _names(model), n=1)):
        return None
    return (*location[:-1], close[0])


def shown(value: Any) -> str:
    """A value as it stands in the file, shortened; lists and mappings by their size."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def model_at(location: Location, root: type[BaseModel] = InferenceService) -> type[BaseModel] | None:
    """The type that describes the mapping at a location."""
    annotation: Any = root
    for part in location:
        if isinstance(part, int):
            annotation = next((inner for inner in _plain(annotation) if get_origin(inner) is tuple), None)
            annotation = get_args(annotation)[0] if annotation else None
        else:
            field = _field(annotation, part)
            annotation = field.annotation if field else None
        if annotation is None:
            return None
    return next((plain for plain in _plain(annotation) if _is_model(plain)), None)


def _instead(location: Location, root: type[BaseModel]) -> str:
    if close := meant(location, root):
        return f'; did you mean "{close[-1]}"?'
    model = model_at(location[:-1], root)
    return f"; fields are {', '.join(_names(model))}" if model else ""


def _purpose(location: Location, root: type[BaseModel]) -> str:
    model = model_at(location[:-1], root)
    text = descriptions(model).get(str(location[-1])) if model else None
    if not text:
        return ""
    first = text.partition("\n")[0].rstrip(".")
    return f": {first[0].lower()}{first[1:]}"


def _allowed(location: Location, root: type[BaseModel]) -> list[str]:
    while location and isinstance(location[-1], int):
        location = location[:-1]
    field = _field(model_at(location[:-1], root), str(location[-1])) if location else None
    plain = _plain(field.annotation) if field else []
    plain += [inner for one in plain if get_origin(one) is tuple for inner in _plain(get_args(one)[0])]
    return [str(value) for one in plain for value in get_args(one) if isinstance(value, str)]


def _closest(found: Any, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(found), allowed, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _listed(values: list[str]) -> str:
    *most, last = (json.dumps(value) for value in values)
    return f"{', '.join(most)} or {last}" if most else last


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _field(annotation: Any, name: str) -> FieldInfo | None:
    for plain in _plain(annotation):
        if _is_model(plain):
            for own, field in plain.model_fields.items():
                if name == (field.alias or own):
                    found: FieldInfo = field
                    return found
    return None


def _plain(annotation: Any) -> list[Any]:
    """The types of a union, without what annotates them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [plain for inner in get_args(annotation) for plain in _plain(inner)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
