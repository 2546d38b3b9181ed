"""What makes a folder a model that an engine can load, and which files of a repository belong to it."""

import json
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tandem_engine.sources.errors import NotAModel

_TEXTS = frozenset({".json", ".txt", ".jinja", ".model", ".tiktoken", ".py"})
"""Configuration, tokenizers, chat templates, code of the model's own (run only where the engine is told to)."""
_OWN_FOLDERS = re.compile(r"\d+_\w+|additional_chat_templates")
"""Folders that belong to a model: modules of sentence-transformers, more templates. Others hold other forms of the same
weights (onnx, original), checkpoints of its training, pictures."""
_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header: the limit of the format's own library."""


def needed_files(names: Iterable[str], uri: str) -> tuple[str, ...]:
    """The files of a repository to fetch, sorted: weights in one form, safetensors before pickles, and the small ones.

    Raises:
        NotAModel: there are no weights in a form that engines load.
    """
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if len(path.parts) == 1 or _OWN_FOLDERS.fullmatch(path.parts[0])]
    safetensors = [path for path in paths if path.suffix == ".safetensors"]
    if any(path.name.startswith("model") for path in safetensors):
        # Mistral's own form of the same weights lies beside that of transformers.
        safetensors = [path for path in safetensors if not path.name.startswith("consolidated")]
    pickles = [path for path in paths if path.suffix == ".bin" and path.name.startswith("pytorch_model")]
    weights = safetensors or pickles
    if not weights:
        found = sorted({path.suffix for path in paths if path.suffix in (".gguf", ".pth", ".pt", ".h5", ".onnx")})
        hint = "For a GGUF file, download it and use file:///path/to/model.gguf." if ".gguf" in found else ""
        raise NotAModel(
            f"{uri} has no weights as *.safetensors or pytorch_model*.bin"
            + (f", only as {', '.join(found)}" if found else "")
            + f". Name a repository or folder with safetensors. {hint}".rstrip()
        )
    small = [path for path in paths if path.suffix in _TEXTS]
    if safetensors:
        small = [path for path in small if path.name != "pytorch_model.bin.index.json"]
    return tuple(sorted(str(path) for path in [*weights, *small]))


def check_model_folder(folder: Path, where: str) -> None:
    """Check what can be checked without loading a model: configuration, weights, every shard, no file cut short.

    Args:
        folder: What to look at.
        where: How errors name it: the URI, say.

    Raises:
        NotAModel: something is missing or damaged; the text says what.
    """
    if not folder.is_dir():
        raise NotAModel(f"{where}: there is no folder {folder}. Check the path, and that its volume is mounted.")
    if any(folder.glob("*.gguf")):
        return  # It carries configuration and tokenizer itself.
    config = next((folder / name for name in ("config.json", "params.json") if (folder / name).is_file()), None)
    if config is None:
        raise NotAModel(f"{where}: {folder} has no config.json. Name the folder that holds it beside the weights.")
    _read_json(config, where)
    safetensors = sorted(folder.glob("*.safetensors"))
    pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if not safetensors and not pickles:
        raise NotAModel(f"{where}: {folder} has a {config.name}, but no weights (*.safetensors). Copy them there.")
    for index in folder.glob("*.index.json"):
        _check_shards(index, where)
    for path in safetensors:
        _check_safetensors(path, where)


def _check_shards(index: Path, where: str) -> None:
    content = _read_json(index, where)
    shards = content.get("weight_map")
    names = sorted({str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    missing = [name for name in names if not (index.parent / name).is_file()]
    other_form = index.name.startswith("pytorch_model") and any(index.parent.glob("*.safetensors"))
    if missing and not other_form:
        raise NotAModel(
            f"{where}: {len(missing)} of {len(names)} shards that {index.name} lists are missing, {missing[0]} "
            "first. Copy the whole model."
        )


def _check_safetensors(path: Path, where: str) -> None:
    """Compare the file's size with what its own header says: a copy that was cut short is found here, not in a GPU."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        if start == b"version ":
            raise NotAModel(f"{where}: {path.name} is a Git LFS pointer, not weights. Run `git lfs pull` there.")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LARGEST_HEADER + 1
        header = file.read(length) if length <= min(size, _LARGEST_HEADER) else b""
    try:
        tensors = json.loads(header)
        end = max((tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"), default=0)
        whole = int(end) + 8 + length == size
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        whole = False
    if not whole:
        raise NotAModel(f"{where}: {path.name} is damaged or incomplete ({size:,} bytes). Copy it again.")


def _read_json(path: Path, where: str) -> dict[str, object]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise NotAModel(f"{where}: {path.name} is not readable as JSON. Copy it again.") from error
    if not isinstance(content, dict):
        raise NotAModel(f"{where}: {path.name} does not hold a JSON object. Copy it again.")
    return content
