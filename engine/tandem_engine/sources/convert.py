"""The program that turns a GGUF file into safetensors: `python -m tandem_engine.sources.convert FILE FOLDER`.

It says on stdout, one JSON object a line, which step it begins, or which package is missing. It ends when its stdin
does, so it never outlives the process that started it, however that went.
"""

import json
import os
import sys
import threading
from pathlib import Path


def main(file: Path, folder: Path) -> None:
    """Convert `file`; the result lies in `folder` when this returns."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _say(step="1/4 loading torch")
    try:
        import accelerate  # noqa: F401 - transformers needs both for this and tells it late, in words of its own
        import gguf  # noqa: F401 - likewise
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ModuleNotFoundError as error:
        _say(missing=error.name or "transformers")
        raise SystemExit(1) from error
    _say(step="2/4 reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _say(step="3/4 unpacking the weights")
    # Without `dequantize` the weights stay packed in the model, and such a model refuses to be saved.
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _say(step="4/4 writing safetensors")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _say(**what: str) -> None:
    print(json.dumps(what), flush=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's end
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
