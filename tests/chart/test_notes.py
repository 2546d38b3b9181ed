"""What people read after an installation."""

import re

import yaml
from tandem_api.manifest import load

from tests.chart.rendering import Chart


def test_the_manifest_in_the_notes_is_a_valid_one(chart: Chart) -> None:
    block = re.search(r"<<'YAML'\n(.*?)\n\s+YAML", chart.notes(), re.DOTALL)
    assert block
    (service,) = load(yaml.safe_dump(yaml.safe_load(block[1])))
    assert service.metadata.name == "first"


def test_notes_say_what_to_do_next(chart: Chart) -> None:
    notes = chart.notes()
    for words in (
        "rollout status deployment/tandem-router",
        "wait --for=condition=Ready",
        "port-forward",
        "helm test tandem",
    ):
        assert words in notes
    assert "http://tandem-router.tandem-system.svc/v1" in notes
    assert "nothing is encrypted" in notes


def test_notes_know_what_was_chosen(chart: Chart) -> None:
    ingress = {"enabled": True, "hosts": ["llm.example"], "tls": [{"secretName": "x", "hosts": ["llm.example"]}]}
    notes = chart.notes(
        {"router": {"ingress": ingress}, "tls": {"secretName": "mesh"}, "namespaces": ["a", "b"], "rehearse": True}
    )
    assert "curl https://llm.example/v1/chat/completions" in notes
    assert "port-forward" not in notes
    assert "Secret mesh" in notes
    assert "the namespaces a, b" in notes
    assert "--namespace a apply" in notes
    assert "rehearsal" in notes
