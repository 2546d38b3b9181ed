"""The CustomResourceDefinition of `InferenceService`, made from its types.

A CRD's schema is a dialect of JSON Schema ("structural"): nothing refers to elsewhere, every value has one type, absent
and null are the same, unknown fields are pruned. What a schema can't say is CEL, which the types carry beside their own
rules. Descriptions are the types' docstrings; `kubectl explain` shows them.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel

from tandem_api.inference_service import GROUP, KIND, VERSION, InferenceService, InferenceServiceSpec
from tandem_api.inference_service.quantities import format_duration
from tandem_api.inference_service.status import InferenceServiceStatus

PLURAL: Final = "inferenceservices"
SHORT: Final = "tisvc"
"""KServe, which has a kind of the same name in its own group, uses isvc."""

_KEPT: Final = {
    "type", "description", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "required", "uniqueItems",
}  # fmt: skip

_COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Versions", "string", ".status.summary.versions", 0),
    ("Prefill", "string", ".status.summary.prefill", 0),
    ("Decode", "string", ".status.summary.decode", 0),
    ("URL", "string", ".status.url", 0),
    ("Model", "string", ".spec.model", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""What `kubectl get` shows: name, type, path, priority (1: with -o wide only)."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition, as Kubernetes' API takes it (apiextensions.k8s.io/v1)."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.decode.replicas",
                            "statusReplicasPath": ".status.decode.replicas",
                            "labelSelectorPath": ".status.decode.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": type, "jsonPath": path} | ({"priority": priority} if priority else {})
                        for name, type, path, priority in _COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def to_yaml() -> str:
    """The CustomResourceDefinition as a YAML document."""
    return yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)


def _root() -> dict[str, Any]:
    """A server knows the metadata's type itself."""
    own = InferenceService.model_json_schema(by_alias=True)
    return {
        "type": "object",
        "description": _text(own["description"]),
        "required": ["spec"],
        "x-kubernetes-validations": own["x-kubernetes-validations"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": KIND},
            "metadata": {"type": "object"},
            "spec": _schema_of(InferenceServiceSpec),
            "status": _schema_of(InferenceServiceStatus),
        },
    }


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))


def _structural(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The same constraints in a CRD's dialect.

    Raises:
        ValueError: there is no such thing in that dialect.
    """
    flat = _flat(schema, definitions)
    if "anyOf" in flat or "oneOf" in flat or not ("type" in flat or flat.get("x-kubernetes-int-or-string")):
        raise ValueError(f"has not exactly one type: {schema}")
    made = {key: value for key, value in flat.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    if "description" in made:
        made["description"] = _text(made["description"])
    if "const" in flat:
        made["enum"] = [flat["const"]]
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in flat:
            made |= {bound: flat[exclusive], exclusive: True}
    # Only leaves: a default for an object would write it out into every resource.
    match flat.get("default"):
        case float(seconds) if flat["type"] == "string":
            made["default"] = format_duration(seconds)  # a number in Python, text in manifests
        case str() | int() | float() as default:
            made["default"] = default
    if "properties" in flat:
        made["properties"] = {name: _structural(one, definitions) for name, one in flat["properties"].items()}
    if "items" in flat:
        made["items"] = _structural(flat["items"], definitions)
    if isinstance(values := flat.get("additionalProperties"), Mapping):
        if _flat(values, definitions):
            made["additionalProperties"] = _structural(values, definitions)
        else:
            made["x-kubernetes-preserve-unknown-fields"] = True  # any JSON
    return made


def _flat(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """With references and "or null" resolved; what stands beside a reference goes before what it refers to."""
    beside = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in schema:
        return _flat(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions) | beside
    options = [option for option in schema.get("anyOf", schema.get("allOf", ())) if option.get("type") != "null"]
    if len(options) == 1:
        return _flat(options[0], definitions) | beside
    return dict(schema)


def _text(description: str) -> str:
    """A docstring as one paragraph."""
    return " ".join(description.split())
