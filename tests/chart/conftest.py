"""The chart, for tests of what it renders."""

import os

import pytest

from tests.chart.rendering import Chart, Objects
from tests.cluster.tools import ToolsMissing, find_clients, find_tools


@pytest.fixture(scope="session")
def chart() -> Chart:
    """Skips where there is no helm; CI demands one."""
    try:
        try:
            return Chart(find_clients(os.environ).helm)
        except ToolsMissing:
            return Chart(find_tools(os.environ).clients.helm)
    except ToolsMissing as missing:
        if os.environ.get("CI") or os.environ.get("TANDEM_TEST_CLUSTER") == "required":
            pytest.fail(f"no helm: {missing}", pytrace=False)
        pytest.skip(f"no helm: {missing}")


@pytest.fixture(scope="session")
def defaults(chart: Chart) -> Objects:
    """What is installed where nobody sets anything."""
    return chart.render()
