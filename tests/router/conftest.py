"""Houses for the router's tests: a router in front of scripted workers, each test in a folder of its own."""

from functools import partial
from pathlib import Path

import pytest

from tests.router.house import OpenHouse, house


@pytest.fixture
def open_house(tmp_path: Path) -> OpenHouse:
    """`async with open_house(prefill=[...], decode=[...]) as h:`."""
    return partial(house, tmp_path)
