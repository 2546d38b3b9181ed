"""What all schedules share."""

from collections.abc import Iterator

import pytest

from tests.rollouts.manifests import Manifests
from tests.rollouts.remembering import remember


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return Manifests()


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    """With the planner's renderers remembering."""
    with pytest.MonkeyPatch.context() as patch:
        remember(patch)
        yield patch
