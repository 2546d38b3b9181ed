"""Values that mean nothing are refused, and those that do are described."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, Chart

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
_FREE = ("labels", "annotations", "resources")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"routers": {}}, "'routers' not allowed"),
        ({"router": {"replcas": 3}}, "'replcas' not allowed"),
        ({"router": {"replicas": "3"}}, "/router/replicas"),
        ({"router": {"replicas": -1}}, "/router/replicas"),
        ({"router": {"ingress": {"enabled": True}}}, "/router/ingress/hosts"),
        ({"router": {"httpRoute": {"enabled": True}}}, "/router/httpRoute/parentRefs"),
        ({"router": {"service": {"type": "ExternalName"}}}, "/router/service/type"),
        ({"router": {"podDisruptionBudget": {"maxUnavailable": 0}}}, "/router/podDisruptionBudget"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"router": {"image": {"digest": "latest"}}}, "/router/image/digest"),
        ({"namespaces": "a"}, "/namespaces"),
        ({"namespaces": ["A_b"]}, "/namespaces/0"),
        ({"namespaces": ["a", "a"]}, "/namespaces"),
        ({"logLevel": "verbose"}, "/logLevel"),
        ({"otlpEndpoint": "collector:4317"}, "/otlpEndpoint"),
        ({"networkPolicies": {"clients": [{}]}}, "/networkPolicies/clients/0"),
        ({"networkPolicies": {"clients": [{"pods": {}}]}}, "/networkPolicies/clients/0"),
        ({"networkPolicies": {"dns": []}}, "/networkPolicies/dns"),
        ({"networkPolicies": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, "/networkPolicies/apiServer/cidrs/0"),
        ({"worker": {"env": {"A": 1}}}, "/worker/env/A"),
        ({"imagePullSecrets": ["acme"]}, "/imagePullSecrets/0"),
        ({"monitoring": {"interval": "15"}}, "/monitoring/interval"),
        ({"test": {"timeoutSeconds": 1}}, "/test/timeoutSeconds"),
    ],
    ids=str,
)
def test_values_that_mean_nothing_are_refused(chart: Chart, values: dict[str, Any], says: str) -> None:
    assert says in chart.refusal(values)


def _walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from _walk(field, f"{path}.{name}")
        if "$ref" in field and not field["$ref"].endswith(_FREE):
            yield from _walk(SCHEMA["$defs"][field["$ref"].rpartition("/")[2]], f"{path}.{name}")


def test_every_value_is_described() -> None:
    assert [path for path, field in _walk(SCHEMA) if not field.get("description")] == []


def test_every_object_refuses_what_it_does_not_know() -> None:
    open_ones = [
        path
        for path, field in _walk(SCHEMA)
        if "properties" in field and field.get("additionalProperties") is not False
    ]
    assert open_ones == []


def test_values_yaml_holds_every_value_of_the_schema_and_no_other() -> None:
    def keys(values: Any, path: str = "") -> Iterator[str]:
        for name, value in values.items():
            yield f"{path}.{name}"
            if isinstance(value, dict):
                yield from keys(value, f"{path}.{name}")

    described = {path for path, _ in _walk(SCHEMA)}
    given = {path for path in keys(VALUES) if not any(f".{free}." in path for free in _FREE)}
    assert given - described == set()
    assert described - given == {".global"}
