"""Virtual models in the chart's values reach every router, and those that are wrong reach none."""

import json
from typing import Any

import pytest
import yaml
from tandem_api.virtual_models import VirtualModelSpec, load_models

from tests.chart.rendering import CHART, Chart, Objects

MODELS: list[dict[str, Any]] = [
    {"id": "greeter", "content": "Hello: {{ you }}\n# and more", "delay": "200ms"},
    {"id": "weather", "type": "tool", "toolCall": {"name": "weather", "arguments": {"city": "Bern", "days": 3}}},
]


def _args(rendered: Objects) -> list[str]:
    found: list[str] = rendered.container("tandem-router")["args"]
    return found


def test_routers_read_the_models_of_the_values(chart: Chart) -> None:
    rendered = chart.render({"virtualModels": {"models": MODELS, "listed": True, "failures": True}})
    held = rendered.one("ConfigMap", "tandem-router-virtual-models")["data"]
    models = load_models(held["models.yaml"])
    assert [model.id for model in models] == ["greeter", "weather"]
    assert (models[0].content, models[0].delay) == (MODELS[0]["content"], 0.2)
    assert models[1].tool_call[0].arguments == {"city": "Bern", "days": 3}
    pod = rendered.one("Deployment", "tandem-router")["spec"]["template"]["spec"]
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "virtual-models"]
    assert f"--virtual-models={mount['mountPath']}/{next(iter(held))}" in _args(rendered)
    assert {"--virtual-listed", "--virtual-failures"} <= set(_args(rendered))
    assert {"name": "virtual-models", "configMap": {"name": "tandem-router-virtual-models"}} in pod["volumes"]


def test_other_models_are_other_routers(chart: Chart) -> None:
    notes = [
        chart.render({"virtualModels": {"models": models}}).pods["Deployment/tandem-router"]["metadata"]["annotations"]
        for models in (MODELS, MODELS[:1])
    ]
    assert notes[0] != notes[1]


def test_without_models_of_ones_own_there_is_nothing_to_mount(chart: Chart, defaults: Objects) -> None:
    assert "ConfigMap/tandem-router-virtual-models" not in defaults.names
    assert not any(arg.startswith(("--virtual", "--no-virtual")) for arg in _args(defaults) if arg != "--virtual-open")
    assert "--no-virtual" in _args(chart.render({"virtualModels": {"enabled": False}}))


@pytest.mark.parametrize(
    ("router", "count"), [({}, 2), ({"replicas": 1}, 1), ({"autoscaling": {"enabled": True, "maxReplicas": 7}}, 7)]
)
def test_routers_know_how_many_they_may_be(chart: Chart, router: dict[str, Any], count: int) -> None:
    assert f"--replicas={count}" in _args(chart.render({"router": router}))


def test_the_schema_knows_the_fields_of_a_model() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["$defs"]["virtualModel"]
    assert set(schema["properties"]) == {field.alias for field in VirtualModelSpec.model_fields.values()}


@pytest.mark.parametrize("wrong", [{"content": "x"}, {"id": "x", "dellay": "1s"}, {"id": "x", "delay": 5}], ids=str)
def test_a_model_that_no_router_could_read_is_refused(chart: Chart, wrong: dict[str, Any]) -> None:
    assert "/virtualModels/models/0" in chart.refusal({"virtualModels": {"models": [wrong]}})


def test_the_values_show_one_that_can_be_read() -> None:
    text = (CHART / "values.yaml").read_text()
    shown = text.partition("as docs/virtual-models.md has it: ")[2].partition("]")[0] + "]"
    assert load_models(yaml.safe_dump({"models": yaml.safe_load(shown)}))
