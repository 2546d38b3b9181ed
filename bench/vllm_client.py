"""`vllm bench serve` as a program of the bench: a line with prompts and arguments in, a line with its result out.

How it asks and measures is its own. Only where its prompts come from is replaced, so that two clients can be given the
same ones: reading a file of prompts needs what the CPU wheel does not bring. It stays between measurements, because
starting it costs more than what it measures.
"""

import json
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers lines until there are no more."""
    out = sys.stdout
    with redirect_stdout(sys.stderr):
        from vllm.benchmarks import serve
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        parser = FlexibleArgumentParser()
        serve.add_cli_args(parser)
        print("{}", file=out, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            with tempfile.TemporaryDirectory() as folder:
                saved = ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
                serve.get_samples = lambda *_, prompts=asked["prompts"]: _samples(prompts)
                serve.main(parser.parse_args([*asked["arguments"], *saved]))
                result = json.loads((Path(folder) / "result.json").read_text())
            told = {name: value for name, value in result.items() if not isinstance(value, list)}
            print(json.dumps(told), file=out, flush=True)


def _samples(prompts: list[dict[str, Any]]) -> list[Any]:
    from vllm.benchmarks.datasets import SampleRequest

    return [
        SampleRequest(
            prompt=one["prompt"],
            prompt_len=len(one["prompt"].split()),  # the server's own count goes before it
            expected_output_len=one["max_tokens"],
            request_id=str(number),
        )
        for number, one in enumerate(prompts)
    ]


if __name__ == "__main__":
    main()
