"""Whether other hands have changed what the operator applied.

With server-side apply an API server keeps account of who set which field (`metadata.managedFields`). Whoever changes or
removes a field that the operator had set takes it out of the operator's account. What others add to an object is not in
that account, and stays. https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import json
from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]
"""Fields in the form FieldsV1: `{"f:spec": {"f:ports": {'k:{"port":80}': {"f:name": {}}}}}`."""

_GIVEN = {"name", "namespace"}
"""Of metadata: they say which object it is, and nobody owns them."""


def drifted(fields: Fields, manifest: Mapping[str, Any]) -> bool:
    """Whether a field of a manifest that was applied is no longer the operator's.

    Args:
        fields: The operator's own, by the object's managedFields.
        manifest: What was applied.
    """
    metadata = {name: part for name, part in manifest["metadata"].items() if name not in _GIVEN}
    content = {name: part for name, part in manifest.items() if name not in ("apiVersion", "kind")}
    parts = {**content, "metadata": metadata}
    return not all(_holds(fields.get(f"f:{name}"), part) for name, part in parts.items())


def _holds(fields: Fields | None, value: Any) -> bool:
    if fields is None:
        return value in ({}, [], ())  # there is no field in it to be owned
    if not fields:
        return True  # owned as a whole
    if isinstance(value, Mapping):
        return all(_holds(fields.get(f"f:{name}"), part) for name, part in value.items())
    return all(any(_is(key, item) and _holds(part, item) for key, part in fields.items()) for item in value)


def _is(key: str, item: Mapping[str, Any]) -> bool:
    """Whether an item of a list is the one that a key such as `k:{"port":80,"protocol":"TCP"}` stands for.

    Fields of the key that the item leaves to its default tell nothing.
    """
    kind, _, found = key.partition(":")
    return kind == "k" and all(item.get(name, part) == part for name, part in json.loads(found).items())
