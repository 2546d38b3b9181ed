"""The README's first command, on real vLLM."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.command import PROGRAM, environment


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """vLLM's sockets lie in the temporary folder, and a socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="demo", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_answers_with_a_real_model_through_prefill_and_decode(short_folder: Path) -> None:
    result = subprocess.run(
        [*PROGRAM, "demo", "--port", "0"],
        capture_output=True,
        text=True,
        env=environment(TMPDIR=str(short_folder)),
        timeout=800,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout
    account = result.stdout.splitlines()[-1]
    assert re.search(r"prefill [\d.]+ m?s · KV [\d.]+ MB \(2 blocks\) over grpc from prefill-0 in ", account), account
    assert re.search(r"first token [\d.]+ m?s · [\d.]+ tok/s · \d+ tokens", account), account
    for step in ("fetch model", "starting engine", "ready"):
        assert step in result.stderr
    assert not list(short_folder.glob("tandem-*"))
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(short_folder) in " ".join(p.info["cmdline"] or [])]
