"""What /openapi.json says of keys."""

from typing import Any, Final

from tandem_router.access.scopes import OPEN, needed

_REFUSALS: Final = {
    "401": "No key, or none that is valid",
    "403": "The key is for something else: the message names the scope that is needed",
}


def with_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, by which every path takes a key in one of two headers, but for those that nobody needs one for."""
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["bearer"] = {"type": "http", "scheme": "bearer"}
    schemes["key"] = {"type": "apiKey", "in": "header", "name": "x-api-key"}
    schema["security"] = [{"bearer": []}, {"key": []}]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if path in OPEN:
                operation["security"] = []
                continue
            operation["x-scope"] = needed(method.upper(), path)
            for status, text in _REFUSALS.items():
                operation["responses"].setdefault(status, {"description": text})
    return schema
