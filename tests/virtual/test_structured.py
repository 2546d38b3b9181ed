import json
from typing import Any

import pytest
from tandem_virtual.structured import instance


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"type": "string"}, lambda v: isinstance(v, str)),
        ({"type": "integer", "minimum": 3, "maximum": 4}, lambda v: v in (3, 4)),
        ({"type": ["null", "string"]}, lambda v: v is None),
        ({"enum": ["a", "b"]}, lambda v: v in ("a", "b")),
        ({"const": 7}, lambda v: v == 7),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, lambda v: len(v) == 2),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, lambda v: isinstance(v, int)),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"const": 1}}}, lambda v: v == {"a": 1}),
    ],
)
def test_an_instance_fits_its_schema(schema: dict[str, Any], fits: Any) -> None:
    assert all(fits(json.loads(instance(schema, seed))) for seed in range(50))


def test_a_recursive_schema_ends() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert json.loads(instance(tree, 1))
