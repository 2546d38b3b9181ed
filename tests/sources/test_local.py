"""file:// and pvc:// sources, and how content comes to its place."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tandem_engine.sources import Progress, Work, fetch, loadable, resolve
from tandem_engine.sources.errors import Changed, InvalidUri, NotAModel, NotFound, SourceError, TargetInUse
from tandem_engine.sources.fetching import default_cache


@pytest.fixture
def work() -> Work:
    return Work(environ={})


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    folder = tmp_path / "models" / "tiny one"
    shutil.copytree(tiny_model, folder)
    return folder


def test_a_folder_is_used_where_it_is(model: Path, work: Work, tmp_path: Path) -> None:
    fetch(model.as_uri(), tmp_path / "to", work)
    assert (tmp_path / "to").readlink() == model
    assert not (model / ".tandem-source.json").exists()


def test_a_link_is_replaced_when_the_source_changes(model: Path, tiny_llama: Path, work: Work, tmp_path: Path) -> None:
    fetch(model.as_uri(), tmp_path / "to", work)
    fetch(tiny_llama.as_uri(), tmp_path / "to", work)
    assert (tmp_path / "to").readlink() == tiny_llama
    assert model.exists()


@pytest.mark.parametrize("uri", ["file://relative/path", "file:relative", "file:///a?load=torch", "file:///a#b"])
def test_a_malformed_file_uri_is_refused(uri: str, work: Work) -> None:
    with pytest.raises(InvalidUri):
        resolve(uri, work)


@pytest.mark.parametrize("uri", ["smollm2", "/models/x", "http://h/x", "HF://org/name", ""])
def test_an_unknown_scheme_names_the_known_ones(uri: str, work: Work) -> None:
    with pytest.raises(InvalidUri, match=r"hf://.*s3://.*file://.*pvc://.*bundled://"):
        resolve(uri, work)


def test_a_missing_folder_is_named(work: Work, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="typo"):
        resolve((tmp_path / "typo").as_uri(), work)


def test_a_folder_without_configuration_is_refused(model: Path, work: Work) -> None:
    (model / "config.json").unlink()
    with pytest.raises(NotAModel, match=r"no config\.json"):
        resolve(model.as_uri(), work)


def test_a_folder_without_weights_is_refused(model: Path, work: Work) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(NotAModel, match="no weights"):
        resolve(model.as_uri(), work)


def test_a_missing_shard_is_named(model: Path, work: Work) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(NotAModel, match=r"1 of 2 shards .* model-2\.safetensors"):
        resolve(model.as_uri(), work)


def test_a_git_lfs_pointer_is_not_taken_for_weights(model: Path, work: Work) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(NotAModel, match="git lfs pull"):
        resolve(model.as_uri(), work)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"1234567", struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"nope"],
)
def test_damaged_weights_are_refused(damaged: bytes, model: Path, work: Work) -> None:
    (model / "model.safetensors").write_bytes(damaged)
    with pytest.raises(NotAModel, match="damaged or incomplete"):
        resolve(model.as_uri(), work)


def test_weights_that_were_cut_short_are_refused(model: Path, work: Work) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(NotAModel, match="damaged or incomplete"):
        resolve(model.as_uri(), work)


def test_a_claim_is_looked_for_at_its_mount(model: Path, work: Work, tmp_path: Path) -> None:
    fetch("pvc://weights/tiny one", tmp_path / "to", work, mount=tmp_path / "models")
    assert (tmp_path / "to").readlink() == model


def test_a_claim_needs_a_mount(work: Work) -> None:
    with pytest.raises(InvalidUri, match="--mount"):
        resolve("pvc://weights/tiny", work)


@pytest.mark.parametrize("uri", ["pvc://", "pvc://Weights/x", "pvc://weights/../x", "pvc://weights/a/../../x"])
def test_a_malformed_claim_is_refused(uri: str, work: Work, tmp_path: Path) -> None:
    with pytest.raises(InvalidUri, match="pvc://claim/path"):
        resolve(uri, work, tmp_path)


def test_a_gguf_file_can_be_handed_over_as_it_is(work: Work, tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF and so on")
    pinned = fetch(f"{file.as_uri()}?load=gguf", tmp_path / "to", work)
    assert loadable(tmp_path / "to") == tmp_path / "to" / "model.gguf"
    assert (tmp_path / "to" / "model.gguf").resolve() == file
    file.write_bytes(b"GGUF, another")
    with pytest.raises(Changed):
        resolve(pinned, work)


def test_a_folder_with_safetensors_is_loaded_as_a_folder(model: Path) -> None:
    assert loadable(model) == model


def test_files_of_others_are_left_alone(model: Path, work: Work, tmp_path: Path) -> None:
    other = tmp_path / "to"
    other.mkdir()
    (other / "thesis.txt").write_text("of years")
    with pytest.raises(TargetInUse, match="Empty it, or name another folder"):
        fetch(model.as_uri(), other, work)
    assert (other / "thesis.txt").read_text() == "of years"


def test_an_empty_folder_may_be_the_target(model: Path, work: Work, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    fetch(model.as_uri(), tmp_path / "to", work)
    assert (tmp_path / "to").readlink() == model


def test_a_mount_point_is_refused_with_advice(model: Path, work: Work) -> None:
    with pytest.raises(TargetInUse, match=r"mount point.*inside of it"):
        fetch(model.as_uri(), Path("/proc"), work)


def test_a_target_that_cant_be_written_is_named(model: Path, work: Work) -> None:
    with pytest.raises(SourceError, match="/proc/nowhere"):
        fetch(model.as_uri(), Path("/proc/nowhere/to"), work)


def test_a_report_that_raises_ends_the_fetch(model: Path, work: Work, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def refuse(_: Progress) -> None:
        raise Enough

    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(Enough):
        fetch(file.as_uri(), tmp_path / "to", replace(work, report=refuse))


def test_a_pod_has_no_cache_but_the_one_it_names(tmp_path: Path) -> None:
    assert default_cache({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) is None
    assert default_cache({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "TANDEM_CACHE": "/cache"}) == Path("/cache")
    assert default_cache({"XDG_CACHE_HOME": "/home/a/.cache"}) == Path("/home/a/.cache/tandem/models")
