"""Engines shared by the tests of this folder: starting one takes several seconds."""

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.vllm_engine.engines import Faults, Pair, config, faulty_connector, running
from tests.vllm_engine.prepared import fork_prepared

# All tests and engines share one loop; engines that only one module needs end with it.
session = pytest_asyncio.fixture(scope="session", loop_scope="session")
module = pytest_asyncio.fixture(scope="module", loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them run in the loop that the engines were started in."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", autouse=True)
def logging_before() -> Callable[[], None]:
    """Sets the process's logging back to what it was before vLLM was imported."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level, levels = root.level, [(handler, handler.level) for handler in root.handlers]

    def restore() -> None:
        logging.setLogRecordFactory(factory)
        root.setLevel(level)
        for handler, own in levels:
            handler.setLevel(own)

    return restore


@pytest.fixture(scope="module", autouse=True)
def logging_as_it_was(logging_before: Callable[[], None]) -> Iterator[None]:
    """What vLLM and its libraries do to the root logger ends with a module: other tests look at logs, too."""
    yield
    logging_before()


@pytest.fixture(scope="session", autouse=True)
def prepared_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fork_prepared(patch)
        yield


@pytest.fixture(scope="session")
def shared_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with pytest.MonkeyPatch.context() as patch:
        yield faulty_connector(patch, tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(shared_faults: Faults) -> Iterator[Faults]:
    yield shared_faults
    shared_faults.set("")


@session
async def pair(tiny_model: Path, shared_faults: Faults) -> AsyncIterator[Pair]:
    """A prefill and a decode engine with the gRPC connector."""
    async with running(tiny_model, config("prefill"), config("decode")) as (prefill, decode):
        yield Pair(prefill, decode)
