"""JSON that fits a schema: what a virtual model says where a tool call or a structured answer is asked for."""

import json
from collections.abc import Mapping
from typing import Any, Final

from tandem_virtual.mixing import mix
from tandem_virtual.words import WORDS

_DEPTH: Final = 16


def instance(schema: Mapping[str, Any], seed: int) -> str:
    """A JSON text that fits `schema`, as far as its types, enums, constants, references and bounds of numbers go.

    Properties that are not required are written too, except below a depth where a recursive schema would not end.
    """
    return json.dumps(_value(schema, schema, seed, 0))


def _value(schema: Any, root: Mapping[str, Any], seed: int, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return None
    if "$ref" in schema:
        return _value(_resolve(str(schema["$ref"]), root), root, seed, depth + 1)
    if "const" in schema:
        return schema["const"]
    if enum := schema.get("enum"):
        return enum[seed % len(enum)]
    for several in ("anyOf", "oneOf", "allOf"):
        if options := schema.get(several):
            return _value(options[0], root, seed, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    match kind:
        case "object":
            return _object(schema, root, seed, depth)
        case "array":
            count = max(int(schema.get("minItems", 1)), 1) if depth < _DEPTH else 0
            return [_value(schema.get("items", {}), root, mix(seed, at), depth + 1) for at in range(min(count, 8))]
        case "integer" | "number":
            return _number(schema, seed)
        case "boolean":
            return seed % 2 == 0
        case "null":
            return None
        case _:
            return WORDS[seed % len(WORDS)]


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], seed: int, depth: int) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: _value(member, root, mix(seed, at), depth + 1)
        for at, (name, member) in enumerate(schema.get("properties", {}).items())
        if name in required or depth < _DEPTH // 4
    }


def _number(schema: Mapping[str, Any], seed: int) -> int:
    low = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    high = int(schema.get("maximum", schema.get("exclusiveMaximum", low + 100) - 1))
    return low + seed % (max(high - low, 0) + 1)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found
