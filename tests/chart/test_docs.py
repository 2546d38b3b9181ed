"""The pages about installing, security and trouble speak of what there is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tandem_operator.planning import conditions, experimenting, trouble
from tandem_operator.planning.experiments import progress

from tests.chart.rendering import CHART

DOCS = CHART.parents[1] / "docs"
PAGES = ("install.md", "security.md", "troubleshooting.md")
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def reasons() -> set[str]:
    """Reasons of conditions, as the code writes them."""
    told = re.findall(r'made\.(?:yes|no|unknown)\(\s*"(\w+)"', Path(conditions.__file__).read_text())
    obstacles = re.findall(r'(?:case|return) "(\w+)"', Path(trouble.__file__).read_text())
    experiments = re.findall(r'reason="(\w+)"', Path(progress.__file__).read_text())
    experiments += re.findall(r'return (?:False|True), "(\w+)"', Path(experimenting.__file__).read_text())
    assert len(told) > 20
    assert len(obstacles) > 3
    assert len(experiments) > 8
    # What the API server refuses, it names itself.
    return {*told, *obstacles, *experiments, "ModelNameTaken", "Invalid", "Forbidden", "Refused"}


def test_every_reason_of_a_condition_is_told_of() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    assert {reason for reason in reasons() if f"`{reason}`" not in page} == set()


def test_no_reason_is_told_of_that_there_is_not() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    rows = re.findall(r"^\| (?:True|False|Unknown) \| (.*?) \|", page, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told - reasons() == set()


def _values(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from _values(field, f"{path}{name}.")
        if field.get("$ref", "").endswith("/image"):
            yield from _values(SCHEMA["$defs"]["image"], f"{path}{name}.")


@pytest.mark.parametrize("page", PAGES)
def test_values_that_a_page_names_exist(page: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", (DOCS / page).read_text())
    known = set(_values(SCHEMA))
    roots = {value.partition(".")[0] for value in known if "." in value}
    named = {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"^[a-z]\w+(?:\.\w+)+", quoted)}
    ours = {word for word in named if word.partition(".")[0] in roots}
    assert len(ours) > 3
    assert {word for word in ours if word not in known} == set()


@pytest.mark.parametrize("page", [*PAGES, "resource.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (DOCS / page).read_text()):
        assert (DOCS / target).exists(), target


def test_the_resource_page_links_to_sections_that_it_has() -> None:
    page = (DOCS / "resource.md").read_text()
    sections = {heading.lower().strip("`") for heading in re.findall(r"^## (\S+)", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= sections


def test_chart_and_page_hold_what_the_types_say() -> None:
    from tandem_api.crd import crd
    from tandem_api.reference import reference

    assert yaml.safe_load((CHART / "files" / "crd.yaml").read_text()) == crd(), "run charts/generate"
    assert (DOCS / "resource.md").read_text() == reference(), "run charts/generate"


def test_the_chart_renders_the_resource_unchanged(request: pytest.FixtureRequest) -> None:
    from tandem_api.crd import crd

    rendered = request.getfixturevalue("defaults").one("CustomResourceDefinition", "inferenceservices.tandem.dev")
    assert rendered["spec"] == crd()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_resource_can_be_left_out_or_taken_along(request: pytest.FixtureRequest) -> None:
    chart = request.getfixturevalue("chart")
    assert chart.render({"crds": {"install": False}}).of("CustomResourceDefinition") == []
    (taken,) = chart.render({"crds": {"keep": False}}).of("CustomResourceDefinition")
    assert "annotations" not in taken["metadata"]
