"""The CRD is of the dialect that API servers take, and says what the types say."""

from collections.abc import Iterator
from typing import Any

import yaml
from tandem_api.crd import crd, to_yaml

Schema = dict[str, Any]


def root() -> Schema:
    schema: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from walk(schema[name], f"{path}[]")


def of_spec() -> Iterator[tuple[str, Schema]]:
    return walk(root()["properties"]["spec"], "spec")


def test_every_value_has_one_type_and_nothing_refers_elsewhere() -> None:
    allowed = {"object", "array", "string", "integer", "number", "boolean"}
    for path, schema in walk(root()):
        assert schema.get("x-kubernetes-int-or-string") or schema["type"] in allowed, path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "$defs", "title", "const", "nullable"} & schema.keys(), path


def test_everything_of_the_spec_has_bounds_so_that_rules_can_be_costed() -> None:
    for path, schema in of_spec():
        match schema.get("type"):
            case "string":
                assert "maxLength" in schema or "enum" in schema, path
            case "array":
                assert "maxItems" in schema, path
            case "object" if "additionalProperties" in schema:
                assert "maxProperties" in schema, path


def test_every_field_of_the_spec_is_described() -> None:
    assert [path for path, schema in of_spec() if not path.endswith("[]") and not schema.get("description")] == []


def test_a_role_has_no_defaults_of_its_own() -> None:
    # A server writes defaults out, and in a version's overrides they would replace what the service says.
    role = root()["properties"]["spec"]["properties"]["versions"]["items"]["properties"]["decode"]
    assert [name for name, field in role["properties"].items() if "default" in field] == []


def test_objects_have_no_defaults() -> None:
    assert [
        path for path, schema in walk(root()) if schema.get("type") in ("object", "array") and "default" in schema
    ] == []


def test_durations_default_to_text() -> None:
    fields = root()["properties"]["spec"]["properties"]["kvTransfer"]["properties"]
    assert fields["leaseTtl"]["default"] == "60s"
    assert fields["maxStagedBytes"] == fields["maxStagedBytes"] | {"x-kubernetes-int-or-string": True, "default": 2**32}


def test_rules_stand_where_the_types_have_them() -> None:
    at = {path for path, schema in walk(root()) if "x-kubernetes-validations" in schema}
    assert {"", ".spec", ".spec.rollout", ".spec.experiment", ".spec.decode", ".spec.decode.autoscaling"} <= at


def test_versions_are_a_map_by_name() -> None:
    versions = root()["properties"]["spec"]["properties"]["versions"]
    assert (versions["x-kubernetes-list-type"], versions["x-kubernetes-list-map-keys"]) == ("map", ["name"])


def test_names_columns_and_subresources() -> None:
    spec = crd()["spec"]
    version = spec["versions"][0]
    assert spec["names"]["categories"] == ["all"]
    assert "isvc" not in spec["names"]["shortNames"]  # KServe's
    shown = [column["name"] for column in version["additionalPrinterColumns"] if not column.get("priority")]
    assert shown == ["Ready", "Versions", "Prefill", "Decode", "URL", "Age"]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.decode.replicas"
    assert "status" in version["subresources"]


def test_the_yaml_is_the_same_and_fits_into_an_annotation() -> None:
    assert yaml.safe_load(to_yaml()) == crd()
    # kubectl apply keeps a copy in an annotation, of which there may be 256 KiB.
    assert len(yaml.safe_dump(crd(), default_flow_style=True, width=10**6)) < 256 * 1024
