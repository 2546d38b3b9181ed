"""An installation for some namespaces: what it serves, what an uninstallation leaves, and who takes that up again."""

import secrets
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.end_to_end.asking import streamed_chat
from tests.end_to_end.release import NAME, installed
from tests.end_to_end.services import model, service

SECONDS = 120.0
MADE = "deployments,replicasets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,networkpolicies,pdb,hpa"
OF_THE_RELEASE = f"{MADE},roles,rolebindings,jobs"
CRD = "customresourcedefinition/inferenceservices.tandem.dev"


@pytest.fixture
def team(cluster: Cluster) -> Iterator[str]:
    """The namespace that the installation is for."""
    name = f"team-{secrets.token_hex(4)}"
    cluster.make_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def names(cluster: Cluster, kinds: str, namespace: str) -> set[str]:
    return set(cluster.kubectl("get", kinds, "-n", namespace, "-o", "name").stdout.split())


def pods(cluster: Cluster, namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in cluster.get("pods", namespace=namespace)["items"]}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("cluster_node", "inside_cluster")
def test_it_serves_its_namespaces_alone_and_its_end_leaves_what_people_made(
    cluster: Cluster, team: str, namespace: str
) -> None:
    untouched, home = names(cluster, MADE, namespace), f"tandem-{secrets.token_hex(4)}"
    cluster.make_namespace(home)
    bare, made_by_none = names(cluster, OF_THE_RELEASE, home), names(cluster, MADE, team)
    with installed(cluster, home, namespaces=[team]) as release:
        for place in (namespace, team):
            cluster.apply(service("ours", place), namespace=place)
        cluster.wait("inferenceservice/ours", "Ready", team, seconds=SECONDS)
        assert streamed_chat(release.url, model("ours", team))
        serving = pods(cluster, team)
        assert names(cluster, MADE, namespace) == untouched
        assert "status" not in cluster.get("inferenceservice/ours", namespace=namespace)
        cluster.helm("uninstall", NAME, f"--namespace={home}", "--wait")
        wait_for(cluster, OF_THE_RELEASE, home, bare)
        cluster.kubectl("get", CRD)
        roles = cluster.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").stdout
        assert home not in roles
        assert pods(cluster, team) == serving

    # Another installation takes the same workers up, and clears away what nobody wants any more.
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", namespaces=[team]) as release:
        cluster.wait("inferenceservice/ours", "Ready", team, seconds=SECONDS)
        assert streamed_chat(release.url, model("ours", team))
        assert pods(cluster, team) == serving
        cluster.kubectl("delete", "inferenceservice", "ours", "-n", team)
        wait_for(cluster, MADE, team, made_by_none)


def wait_for(cluster: Cluster, kinds: str, namespace: str, wanted: set[str]) -> None:
    """Nothing more than this is left, in the end."""
    end = time.monotonic() + SECONDS
    while left := names(cluster, kinds, namespace) - wanted:
        assert time.monotonic() < end, left
        time.sleep(0.2)
