"""`docs/resource.md`: InferenceService field by field, made from its types.

A page in the repository can go stale, so none of it is written by hand: names, defaults and bounds are the schema's,
the words are the types' docstrings, the rules are those that an API server checks.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tandem_api.crd import SHORT
from tandem_api.inference_service import GROUP, KIND, VERSION, InferenceService
from tandem_api.inference_service.quantities import format_duration
from tandem_api.inference_service.service import InferenceServiceSpec
from tandem_api.inference_service.status import InferenceServiceStatus

Schema = Mapping[str, Any]

_REF: Final = "#/$defs/"
_ANY: Final = "JsonValue"
_HEAD: Final = f"""# {KIND}, field by field

`apiVersion: {GROUP}/{VERSION}`, `kind: {KIND}`; `kubectl get {SHORT}` for short. This page is made from the types in
`api/tandem_api/inference_service` (`charts/generate`); `kubectl explain inferenceservice.spec --recursive` tells the
same. Manifests for each use are in [deploy/samples](../deploy/samples).

Durations are text with a unit (`500ms`, `30s`, `1h30m`), sizes are Kubernetes quantities (`4Gi`). A field without a
default may be left out, unless it is **required**.
"""


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *_page()])


def _page() -> Iterator[str]:
    told: set[str] = set()
    for title, model in (("spec", InferenceServiceSpec), ("status", InferenceServiceStatus)):
        schema = model.model_json_schema(by_alias=True)
        yield from _section(f"`{title}`", schema, schema.get("$defs", {}))
        if title == "spec":
            yield from _rules(InferenceService.model_json_schema(by_alias=True), "Of the whole resource:")
        for name in _mentioned(schema, schema.get("$defs", {})):
            if name not in told:
                told.add(name)
                yield from _section(name, schema["$defs"][name], schema["$defs"])


def _mentioned(schema: Schema, definitions: Schema) -> list[str]:
    """Names of all types that a type leads to, each after the first one that names it."""
    found: list[str] = []

    def look(node: Any) -> None:
        match node:
            case {"$ref": str(reference)}:
                name = reference.removeprefix(_REF)
                if name not in found and name != _ANY:
                    found.append(name)
                    look(definitions[name])
            case dict():
                for key, value in node.items():
                    if key != "$defs":
                        look(value)
            case list():
                for value in node:
                    look(value)

    look(dict(schema))
    return found


def _section(title: str, schema: Schema, definitions: Schema) -> Iterator[str]:
    yield f"## {title}\n"
    if text := _text(schema.get("description", "")):
        yield f"{text}\n"
    if fields := schema.get("properties"):
        yield "| field | type | default | meaning |"
        yield "|---|---|---|---|"
        required = schema.get("required", ())
        for name, field in fields.items():
            default = "**required**" if name in required else _default(field)
            yield f"| `{name}` | {_type(field)} | {default} | {_cell(field, definitions)} |"
        yield ""
    yield from _rules(schema, "Rules, which `kubectl apply` checks:")


def _rules(schema: Schema, introduction: str) -> Iterator[str]:
    if rules := schema.get("x-kubernetes-validations"):
        yield f"{introduction}\n"
        for rule in rules:
            at = rule.get("fieldPath", "").removeprefix(".")
            yield f"- {f'`{at}`: ' if at else ''}{_escaped(rule['message'])}"
        yield ""


def _type(field: Schema) -> str:
    """In the words of a manifest's author."""
    options = [option for option in field.get("anyOf", field.get("allOf", ())) if option.get("type") != "null"]
    match {**options[0], **field} if len(options) == 1 else field:
        case {"$ref": str(reference)}:
            name = reference.removeprefix(_REF)
            if name == _ANY:
                return "any JSON"
            return f"[{name}](#{name.lower()})"
        case {"enum": list(values)}:
            return " \\| ".join(f"`{value or chr(34) * 2}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"map to {_type(values)}"
        case {"x-kubernetes-int-or-string": True}:
            return "number or text"
        case {"type": "string", "pattern": pattern} if "us|ms" in pattern and "%" not in pattern:
            return "duration"
        case {"type": kind}:
            return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}.get(
                str(kind), str(kind)
            )
    raise ValueError(f"has no type that could be told: {field}")


def _default(field: Schema) -> str:
    match field.get("default"):
        case None | "" | [] | {}:
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case float(seconds) if _type(field) == "duration":
            return f"`{format_duration(seconds)}`"
        case str() | int() | float() as value:
            return f"`{value}`"
        case _:
            return ""  # an object's: its own fields tell


def _cell(field: Schema, definitions: Schema) -> str:
    text = _text(field.get("description", ""))
    if not text and "$ref" in field:
        text = _text(definitions[field["$ref"].removeprefix(_REF)].get("description", ""))
    bounds = []
    for key, words in (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "more than {}"),
        ("maximum", "at most {}"),
        ("exclusiveMaximum", "less than {}"),
    ):
        values = [option[key] for option in (field, *field.get("anyOf", ())) if key in option]
        bounds += [words.format(values[0])] if values else []
    bounded = f" ({', '.join(bounds)})" if bounds else ""
    return f"{_escaped(text)}{bounded}".strip()


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _text(description: str) -> str:
    return " ".join(description.split())
