"""Pods on the test cluster's node."""

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.cluster.podding import Pods


@pytest.fixture
def pods(cluster: Cluster, cluster_node: ClusterNode, namespace: str) -> Pods:
    return Pods(cluster, cluster_node, namespace)
