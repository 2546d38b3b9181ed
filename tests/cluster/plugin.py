"""The fixtures of tests on a cluster, for tests of every room. README.md beside this file tells how to use them.

A test that asks for `cluster` is marked `cluster`, so that `make test-cluster` can run these alone.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode, running_node
from tests.cluster.control_plane import running_control_plane
from tests.cluster.network import has_user, may_make_networks
from tests.cluster.node.walls import IMAGE_USER
from tests.cluster.tools import ToolsMissing, find_clients, find_tools


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs a Kubernetes API server; fixtures of tests/cluster start one")


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without nodes, one for the whole test run; of the developer's where TANDEM_TEST_KUBECONFIG names it."""
    try:
        given = os.environ.get("TANDEM_TEST_KUBECONFIG")
        if given:
            yield Cluster(Path(given), find_clients(os.environ), None)
            return
        tools = find_tools(os.environ)
    except ToolsMissing as missing:
        _lacks(str(missing))
    if not may_make_networks():
        _lacks("the test cluster has a network of its own: run as root, or under "
               "`unshare --user --map-root-user --net --mount`")  # fmt: skip
    with running_control_plane(tools, tmp_path_factory.mktemp("cluster") / "control-plane") as plane:
        yield Cluster(plane.kubeconfig, tools.clients, plane)


@pytest.fixture(scope="session")
def started_node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterNode]:
    """The cluster's one node; no pod is scheduled to it outside of tests that ask for `cluster_node`."""
    if cluster.control_plane is None:
        pytest.skip("the cluster that TANDEM_TEST_KUBECONFIG names has nodes of its own")
    if not has_user(IMAGE_USER):
        _lacks(f"pods run as user {IMAGE_USER}, who is not in this user namespace: run as root")
    folder = tmp_path_factory.mktemp("node") / "node"
    with running_node("node", cluster, cluster.control_plane, folder, {"nvidia.com/gpu": "8"}) as node:
        yield node


def _lacks(what: str) -> NoReturn:
    """Skips, or fails where the test cluster is demanded."""
    if os.environ.get("CI") or os.environ.get("TANDEM_TEST_CLUSTER") == "required":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="module")
def cluster_node(cluster: Cluster, started_node: ClusterNode) -> Iterator[ClusterNode]:
    """The cluster's one node, which runs pods as processes of this machine, for the tests of one module."""
    started_node.check()
    cluster.kubectl("uncordon", started_node.name)
    yield started_node
    cluster.kubectl("cordon", started_node.name)


@pytest.fixture
def inside_cluster(cluster: Cluster) -> Iterator[None]:
    """The test's own sockets, and the programs that it starts, are in the cluster's network."""
    with cluster.entered():
        yield


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for one test, in which only restricted pods are admitted."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.make_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
