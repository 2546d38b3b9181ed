"""What the tests of model sources share: a model as files, a Hub, and surroundings that never wait."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tandem_engine.sources import Backoff, Progress, Work

from tests.sources.hub_server import HubServer, hub_server


@pytest.fixture
def model_files(tiny_model: Path) -> dict[str, bytes]:
    """A model's files, by name."""
    return {path.name: path.read_bytes() for path in tiny_model.iterdir()}


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


@pytest.fixture
def reports() -> list[Progress]:
    return []


MakeWork = Callable[..., Work]


@pytest.fixture
def make_work(hub: HubServer, reports: list[Progress]) -> MakeWork:
    def make(**environ: str) -> Work:
        return Work(
            environ={"HF_ENDPOINT": hub.endpoint} | environ,
            report=reports.append,
            backoff=Backoff(attempts=4, first=0.001, longest=0.01),
            timeout=60,
        )

    return make


@pytest.fixture
def work(make_work: MakeWork) -> Work:
    return make_work()
