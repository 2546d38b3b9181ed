"""A real API server takes and refuses what `tandem_api.manifest` does."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tandem_api.crd import crd, to_yaml
from tandem_api.manifest import load

from tests.api.refused import REFUSED, Refused, good
from tests.cluster.cluster import Cluster

SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "samples").glob("*.yaml"))
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    def run(*args: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return cluster.kubectl(*args, given=given, check=False)

    applied = run("apply", "--server-side", "--force-conflicts", "-f", "-", given=to_yaml())
    assert applied.returncode == 0, applied.stderr
    established = run("wait", "--for=condition=Established", "--timeout=90s", "crd", crd()["metadata"]["name"])
    assert established.returncode == 0, established.stderr
    return run


def _try(kubectl: Kubectl, manifest: str) -> subprocess.CompletedProcess[str]:
    return kubectl("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", given=manifest)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_taken_and_reads_back_as_the_same_service(kubectl: Kubectl, sample: Path) -> None:
    answer = _try(kubectl, sample.read_text())
    assert answer.returncode == 0, answer.stderr
    (sent,), (stored,) = load(sample), load(answer.stdout)
    assert stored.spec == sent.spec


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_an_api_server_refuses(kubectl: Kubectl, case: Refused) -> None:
    answer = _try(kubectl, yaml.safe_dump(case.manifest()))
    assert answer.returncode != 0, answer.stdout
    # In the types' words, or in the server's own with the place.
    assert case.says in answer.stderr or case.path.partition("[")[0] in answer.stderr


def test_weights_are_cited(kubectl: Kubectl) -> None:
    case = next(case for case in REFUSED if case.name == "weights that do not sum to 100")
    says = _try(kubectl, yaml.safe_dump(case.manifest())).stderr
    assert "spec.versions: Invalid value" in says
    assert "weights are 90 and 20: they must sum to 100" in says


def test_the_model_of_a_service_stays(kubectl: Kubectl) -> None:
    first: dict[str, Any] = good()
    first["metadata"]["name"] = "stays"
    second = json.loads(json.dumps(first))
    second["spec"]["model"] = "other"
    try:
        assert kubectl("apply", "-f", "-", given=json.dumps(first)).returncode == 0
        answer = kubectl("apply", "-f", "-", given=json.dumps(second))
        assert answer.returncode != 0
        assert "clients call the model by it" in answer.stderr
    finally:
        kubectl("delete", "inferenceservice", "stays", "--ignore-not-found")


def test_kubectl_explains_every_field_of_the_spec(kubectl: Kubectl) -> None:
    properties = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    def missing() -> list[str]:
        text = kubectl("explain", "inferenceservice.spec", "--recursive=false").stdout
        return [name for name, field in properties.items() if field["description"].split()[0] not in text]

    end = time.monotonic() + 90
    while missing():  # an API server tells of a resource some time after it serves it
        assert time.monotonic() < end, missing()
        time.sleep(0.2)


def test_decode_is_scaled_by_kubectl(kubectl: Kubectl) -> None:
    manifest = good()
    manifest["metadata"]["name"] = "scaled"
    try:
        assert kubectl("apply", "-f", "-", given=json.dumps(manifest)).returncode == 0
        assert kubectl("scale", "inferenceservice/scaled", "--replicas=3").returncode == 0
        stored = json.loads(kubectl("get", "tisvc", "scaled", "-o", "json").stdout)
        assert stored["spec"]["decode"]["replicas"] == 3
    finally:
        kubectl("delete", "inferenceservice", "scaled", "--ignore-not-found")


def test_people_find_services_by_short_name_and_among_all(kubectl: Kubectl) -> None:
    manifest = good()
    manifest["metadata"]["name"] = "found"
    try:
        assert kubectl("apply", "-f", "-", given=json.dumps(manifest)).returncode == 0
        lines = kubectl("get", "tisvc", "found").stdout.splitlines()
        assert lines[0].split() == ["NAME", "READY", "VERSIONS", "PREFILL", "DECODE", "URL", "AGE"]
        assert lines[1].split()[0] == "found"
        assert "inferenceservice.tandem.dev/found" in kubectl("get", "all", "-o", "name").stdout
    finally:
        kubectl("delete", "inferenceservice", "found", "--ignore-not-found")


def test_kubectl_explains_what_lies_deep(kubectl: Kubectl) -> None:
    for path in ("versions.engine.virtual", "decode.autoscaling.metrics", "experiment.decide.tolerate", "rollout"):
        answer = kubectl("explain", f"inferenceservice.spec.{path}")
        assert answer.returncode == 0, answer.stderr
        assert "<no description>" not in answer.stdout, path
