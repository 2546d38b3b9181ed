"""Reading manifest files: where problems are, and that all of them are told."""

from pathlib import Path

import pytest
from tandem_api.manifest import ManifestError, load, read

SAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "samples").glob("*.yaml"))

HEAD = """apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: llama}
"""
GOOD = (
    HEAD
    + """spec:
  versions:
    - name: v1
      source: hf://org/name
  decode: {replicas: 1}
"""
)


def findings(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ManifestError) as raised:
        load(text)
    return [(one.position.line, one.position.column, one.path) for one in raised.value.findings]


def message(text: str) -> str:
    with pytest.raises(ManifestError) as raised:
        load(text, "llama.yaml")
    return str(raised.value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_is_taken(sample: Path) -> None:
    assert load(sample)


def test_the_smallest_manifest_is_about_ten_lines() -> None:
    smallest = next(sample for sample in SAMPLES if sample.stem == "smollm2")
    assert len([line for line in smallest.read_text().splitlines() if not line.startswith("#")]) <= 11


def test_a_problem_is_told_with_file_line_column_path_and_remedy() -> None:
    assert message(GOOD.replace("replicas: 1", "replicas: one")) == (
        'llama.yaml:8:22: spec.decode.replicas: found "one": must be a whole number'
    )


def test_all_problems_of_a_file_are_told_in_the_order_of_its_lines() -> None:
    text = HEAD + (
        "spec:\n"
        "  versions:\n"
        "    - {name: v1, source: hf://org/name, weight: 90}\n"
        "    - {name: v2, source: hf://org/name, weight: 20}\n"
        "  prefil: {}\n"
        "  decode: {replicas: -1}\n"
    )
    assert findings(text) == [
        (6, 5, "spec.versions"),
        (8, 3, "spec.prefil"),
        (9, 22, "spec.decode.replicas"),
    ]


def test_a_rule_says_nothing_about_fields_that_are_wrong_by_themselves() -> None:
    text = HEAD + (
        "spec:\n"
        "  versions:\n"
        "    - {name: v1, source: hf://org/name, wieght: 90}\n"
        "    - {name: v2, source: hf://org/name, weight: 10}\n"
        "  decode: {}\n"
    )
    assert findings(text) == [(6, 41, "spec.versions[0].wieght")]


def test_a_misspelt_field_is_not_missed_too() -> None:
    assert findings(GOOD.replace("decode:", "decod:")) == [(8, 3, "spec.decod")]


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    assert "fields are connector, leaseTtl, maxStagedBytes, maxFetches" in message(GOOD + "  kvTransfer: {zzz: 1}\n")


def test_a_missing_field_is_told_where_it_belongs_and_what_it_is_for() -> None:
    text = GOOD.replace("  decode: {replicas: 1}\n", "")
    assert message(text) == "llama.yaml:5:3: spec.decode: is missing: workers that generate the answers"


def test_a_key_that_is_there_twice_is_told_beside_other_problems() -> None:
    text = GOOD + "  decode: {replicas: 2}\n  model: '-'\n"
    assert findings(text) == [(9, 3, "spec.decode"), (10, 10, "spec.model")]
    assert "is there already, in line 8" in message(text)


def test_problems_of_every_document_are_told() -> None:
    text = GOOD.replace("hf://org/name", "x") + "---\n" + GOOD.replace("replicas: 1", "replicas: x")
    assert [(line, path) for line, _, path in findings(text)] == [
        (7, "spec.versions[0].source"),
        (17, "spec.decode.replicas"),
    ]


def test_two_services_of_one_name_are_refused() -> None:
    assert '"default/llama" is there already, in line 1' in message(GOOD + "---\n" + GOOD)


def test_several_documents_are_several_services() -> None:
    services = load(GOOD + "---\n# nothing\n---\n" + GOOD.replace("llama", "other"))
    assert [service.key for service in services] == ["default/llama", "default/other"]


OTHER = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: hugging-face}\n"


def test_another_kind_is_refused_by_load() -> None:
    assert "llama.yaml:10:1: kind: found v1 Secret: must be InferenceService of tandem.dev/v1alpha1" in message(
        GOOD + OTHER
    )


def test_another_kind_is_reported_by_read() -> None:
    manifest = read(GOOD + OTHER)
    assert [service.key for service in manifest.services] == ["default/llama"]
    assert [(other.kind, other.name, other.line) for other in manifest.others] == [("v1 Secret", "hugging-face", 10)]


def test_another_version_of_the_api_is_refused_and_not_taken_for_another_kind() -> None:
    with pytest.raises(ManifestError, match=r'apiVersion: found "tandem.dev/v1": must be "tandem.dev/v1alpha1"'):
        read(GOOD.replace("v1alpha1", "v1"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1:1: holds no InferenceService"),
        ("a: [", "1:5: is not YAML"),
        ("a: 1\n\tb: 2\n", "2:1: is not YAML"),
        ("- x", "1:1: found a list of 1: must be a mapping of fields"),
        ("\0", "1:1: is not YAML"),
        ("[" * 5000, "is nested too deeply"),
        ("&a [*a]", "100,000 values"),
        ("kind: InferenceService\nx: !!binary aGk=", "holds what JSON can't say"),
        ("x: !!python/object:os.system {}", "is not YAML: could not determine a constructor"),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_manifest_at_all_is_refused(text: str, says: str) -> None:
    assert says in message(text)


def test_a_document_that_aliases_blow_up_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "100,000 values" in message("\n".join(lines))


def test_aliases_and_merge_keys_are_followed() -> None:
    text = HEAD + (
        "spec:\n"
        "  versions:\n"
        "    - {name: v1, source: hf://org/name}\n"
        "  prefill: &worker {replicas: 2, nodeSelector: {gpu: l40s}}\n"
        "  decode: {<<: *worker, replicas: 3}\n"
    )
    (service,) = load(text)
    assert service.spec.decode.replicas == 3
    assert service.spec.decode.node_selector == {"gpu": "l40s"}


def test_a_date_stays_text() -> None:
    (service,) = load(GOOD.replace("{name: llama}", "{name: llama, labels: {since: 2025-03-01}}"))
    assert service.metadata.labels == {"since": "2025-03-01"}


def test_what_a_server_adds_is_accepted() -> None:
    added = (
        "{name: llama, uid: x, generation: 3, managedFields: [{manager: kubectl}], "
        "creationTimestamp: 2025-03-01T00:00:00Z}"
    )
    (service,) = load(GOOD.replace("{name: llama}", added) + "status: {observedGeneration: 3, later: 1}\n")
    assert service.metadata.generation == 3


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_the_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("- x")
    with pytest.raises(ManifestError, match=str(path)):
        load(path)
