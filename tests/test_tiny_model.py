"""The tiny model is a model folder like any other, and always the same."""

import hashlib
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.tiny_model import VOCAB, Arch, make_tiny_model


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("arch", ["qwen3", "llama"])
def test_the_same_seed_gives_the_same_bytes(arch: Arch, tmp_path: Path) -> None:
    assert hashes(make_tiny_model(tmp_path / "a", arch)) == hashes(make_tiny_model(tmp_path / "b", arch))


def test_another_seed_gives_other_weights_only(tmp_path: Path) -> None:
    one, other = (hashes(make_tiny_model(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}


def test_every_id_that_the_model_can_draw_is_a_token(tiny_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    assert json.loads((tiny_model / "config.json").read_text())["vocab_size"] == VOCAB
    assert [n for n in range(VOCAB) if tokenizer.id_to_token(n) is None] == []


def test_any_text_comes_back_from_its_tokens(tiny_model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    text = 'Grüße, 世界! 🎉 {"city": "Paris"} <tool_call>'
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
