"""The chart's `tls.secretName`: the whole platform under mutual TLS, and attempts to get in."""

import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.cluster.tools import CHECKOUT
from tests.end_to_end.asking import streamed_chat
from tests.end_to_end.release import Release, installed
from tests.end_to_end.services import model, service

SECRET = "tandem-mtls"
GRPC, HEALTH, KV = 9000, 9001, 9100


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


@pytest.fixture(scope="module")
def secured(
    cluster: Cluster, cluster_node: ClusterNode, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    namespace = f"tandem-{secrets.token_hex(4)}"
    give(cluster, namespace, authority.secret(tmp_path_factory.mktemp("tls") / "router"))
    with installed(cluster, namespace, tls={"secretName": SECRET}) as release:
        yield release


@pytest.fixture(scope="module")
def workers(
    cluster: Cluster, secured: Release, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A service's namespace, once it is ready."""
    namespace = f"workers-{secrets.token_hex(4)}"
    give(cluster, namespace, authority.secret(tmp_path_factory.mktemp("tls") / "worker"))
    cluster.apply(service("quiet", namespace), namespace=namespace)
    cluster.wait("inferenceservice/quiet", "Ready", namespace, seconds=120)
    yield namespace
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def give(cluster: Cluster, namespace: str, folder: Path) -> None:
    """Makes the namespace, and in it the Secret that is to be there."""
    files = {name: (folder / name).read_text() for name in ("tls.crt", "tls.key", "ca.crt")}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "type": "kubernetes.io/tls"}
    cluster.make_namespace(namespace)
    cluster.apply({**secret, "stringData": files}, namespace=namespace)


def address_of(cluster: Cluster, namespace: str, role: str) -> str:
    (pod,) = cluster.get("pods", "-l", f"tandem.dev/role={role}", namespace=namespace)["items"]
    return str(pod["status"]["podIP"])


def intrude(cluster: Cluster, namespace: str, role: str, *options: str) -> dict[str, Any]:
    address = address_of(cluster, namespace, role)
    kv = ("--kv", f"{address}:{KV}") if role == "prefill" else ()
    program = (sys.executable, "-m", "tests.end_to_end.intruder")
    said = cluster.run(["env", f"PYTHONPATH={CHECKOUT}", *program, role, f"{address}:{GRPC}", *kv, *options])
    return dict(json.loads(said.stdout))


@pytest.mark.slow
@pytest.mark.usefixtures("inside_cluster")
def test_a_pair_answers_under_mutual_tls(secured: Release, workers: str) -> None:
    assert streamed_chat(secured.url, model("quiet", workers))


@pytest.mark.slow
@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.parametrize("known", [False, True], ids=["no certificate", "a foreign one"])
def test_a_stranger_does_not_get_in(cluster: Cluster, workers: str, role: str, known: bool, tmp_path: Path) -> None:
    options = ("--tls", str(Authority.make().secret(tmp_path / "foreign"))) if known else ()
    assert set(intrude(cluster, workers, role, *options).values()) == {"UNAVAILABLE"}


@pytest.mark.slow
def test_a_router_gets_in_but_only_to_kv_that_it_has_a_lease_of(
    cluster: Cluster, workers: str, authority: Authority, tmp_path: Path
) -> None:
    own = ("--tls", str(authority.secret(tmp_path / "own")))
    assert intrude(cluster, workers, "prefill", "--leases-of", model("quiet", workers), *own) == {
        "describe": "OK",
        "reflection": "UNIMPLEMENTED",
        "never given": "NOT_FOUND",
        "given": "OK",
        "other content": "FAILED_PRECONDITION",
        "handed on": "NOT_FOUND",
        "its next bits": "OK",
        "released": "NOT_FOUND",
    }
    assert intrude(cluster, workers, "decode", *own) == {"describe": "OK", "reflection": "UNIMPLEMENTED"}
