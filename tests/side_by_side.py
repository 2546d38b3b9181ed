"""How `pytest -n` shares the tests out: what starts the same thing stays together, and what takes long comes first.

A unit of work goes to one process whole. It is a module, but for the modules of `TOGETHER`, which share what a session
starts (a cluster, a pair of engines, a database), and of `APART`, whose tests take minutes each and share nothing.
"""

from pathlib import PurePath
from typing import Final

import pytest

TOGETHER: Final = {
    "a cluster with the platform": ("tests/end_to_end/*",),
    "a cluster": (
        "tests/cluster/*",
        "tests/operator_live/*",
        "tests/*/test_*on_api_server.py",
        "tests/router/test_kubernetes.py",
    ),
    "a pair of vLLM's engines": ("tests/vllm_engine/*",),
    "a router with two workers": ("tests/surfaces/*",),
    "a database": ("tests/registry/*",),
    "a rendered chart": ("tests/chart/*",),
}
APART: Final = ("tests/conservation/*",)

LONG: Final = (
    "a cluster with the platform",
    "a pair of vLLM's engines",
    "tests/conservation/",
    "a cluster",
    "tests/rollouts/",
    "tests/cli/test_demo.py",
    "tests/docker/",
)
"""Beginnings of the units that take longest, longest first: begun last, one of them would run on alone."""


def unit(nodeid: str) -> str:
    """The unit of work that a test belongs to."""
    module = nodeid.partition("::")[0]
    path = PurePath(module)
    for name, patterns in TOGETHER.items():
        if any(path.match(pattern) for pattern in patterns):
            return name
    return nodeid if any(path.match(pattern) for pattern in APART) else module


def _turn(item: pytest.Item) -> int:
    mine = unit(item.nodeid)
    return next((turn for turn, beginning in enumerate(LONG) if mine.startswith(beginning)), len(LONG))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class InUnits(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # by number of tests
    return InUnits(config, log)
