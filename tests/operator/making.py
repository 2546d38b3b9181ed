"""Services to plan, from as much of a spec as a test is about."""

from collections.abc import Mapping
from typing import Any

from tandem_api.inference_service import InferenceService

VERSION = {"name": "v1", "source": "hf://org/name"}


def service(name: str = "llama", created: str = "", **spec: Any) -> InferenceService:
    """A service with one version and both roles, unless `spec` says otherwise; prefill=None: without prefill."""
    given = {"versions": [VERSION], "prefill": {}, "decode": {}, **spec}
    return InferenceService.model_validate(
        {
            "apiVersion": "tandem.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": name, "creationTimestamp": created},
            "spec": {field: value for field, value in given.items() if value is not None},
        }
    )


def version(**fields: Any) -> dict[str, Any]:
    return {**VERSION, **fields}


def fields_of(value: Any) -> dict[str, Any]:
    """Who applies it owns these fields, lists as a whole: in the form of managedFields."""
    return {f"f:{name}": fields_of(part) for name, part in value.items()} if isinstance(value, Mapping) else {}
