"""The platform as people install it, on a cluster whose node runs its pods as processes."""

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.release import Release, installed


@pytest.fixture(scope="module")
def release(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    """The chart with its defaults, for the tests of one module."""
    with installed(cluster, f"tandem-{secrets.token_hex(4)}") as release:
        yield release
