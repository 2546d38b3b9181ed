"""Fixtures of the operator's tests on a real API server."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tandem_api.crd import crd

from tests.cluster.cluster import Cluster
from tests.operator_live.platform import Platform, until


@pytest.fixture(scope="session")
def crd_there(cluster: Cluster) -> None:
    """The resource is known to the API server."""
    cluster.apply(crd())
    until(lambda: cluster.kubectl("get", "tisvc", check=False).returncode == 0)


@pytest.fixture
def platform(cluster: Cluster, crd_there: None, namespace: str, tmp_path: Path) -> Iterator[Platform]:
    with ExitStack() as stack:
        yield Platform(cluster, namespace, tmp_path, stack)
