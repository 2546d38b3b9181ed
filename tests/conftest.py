"""What tests of several rooms share."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests import tiny_model as tool

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")

pytest_plugins = ["tests.cluster.plugin", "tests.side_by_side"]


def _cached_model(arch: tool.Arch) -> Path:
    """A tiny model in the cache, under the hash of the tool that made it: a changed tool makes another."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("TANDEM_CACHE") or home / "tandem" / "models") / "test-models"
    made_by = hashlib.sha256(Path(tool.__file__).read_bytes()).hexdigest()[:12]
    folder = cache / f"tiny-{arch}-{made_by}"
    if not folder.exists():
        # Test runs side by side make the same bytes: whoever renames first wins, the others throw theirs away.
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            made = tool.make_tiny_model(Path(temporary) / "model", arch)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return folder


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The folder of a tiny model of random weights, of Qwen3's architecture. Read only."""
    return _cached_model("qwen3")


@pytest.fixture(scope="session")
def tiny_llama() -> Path:
    """The same of Llama's architecture."""
    return _cached_model("llama")
