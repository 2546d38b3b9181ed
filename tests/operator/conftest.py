"""Manifests to plan."""

from pathlib import Path

import pytest
from tandem_api.inference_service import InferenceService
from tandem_api.manifest import load

SAMPLES = Path(__file__).parents[2] / "deploy" / "samples"


@pytest.fixture
def samples() -> dict[str, InferenceService]:
    """deploy/samples, by file name without its end."""
    return {path.stem: load(path)[0] for path in SAMPLES.glob("*.yaml")}
