"""From `helm install` to an answer, and back to nothing."""

import base64
import secrets
import time
from collections.abc import Iterator

import openai
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.release import NAME, SAMPLES, Release, installed

MADE = "deployments,replicasets,pods,services,endpointslices,configmaps,serviceaccounts,networkpolicies,pdb,hpa"


@pytest.fixture(scope="module")
def release(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    """The chart with its defaults: a key is made, and asked for."""
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", auth={"required": True}) as release:
        yield release


@pytest.mark.slow
@pytest.mark.usefixtures("inside_cluster")
def test_a_sample_answers_once_it_is_ready_and_leaves_nothing(
    cluster: Cluster, release: Release, namespace: str
) -> None:
    before = _names(cluster, namespace)
    cluster.kubectl("apply", "-n", namespace, "-f", str(SAMPLES / "virtual.yaml"))
    cluster.wait("inferenceservice/rehearsal", "Ready", namespace, seconds=120)

    stranger = openai.OpenAI(base_url=release.url, api_key="none", max_retries=0, timeout=60)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    secret = cluster.get("secret", f"{NAME}-api-key", namespace=release.namespace)
    key = base64.b64decode(secret["data"]["api-key"]).decode()
    with openai.OpenAI(base_url=release.url, api_key=key, max_retries=0, timeout=60) as client:
        chunks = list(
            client.chat.completions.create(
                model="rehearsal", messages=[{"role": "user", "content": "Who is there?"}], stream=True
            )
        )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")

    cluster.kubectl("delete", "inferenceservice", "rehearsal", "-n", namespace)
    deadline = time.monotonic() + 120
    while left := _names(cluster, namespace) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.mark.slow
def test_helm_test_passes(cluster: Cluster, release: Release) -> None:
    said = cluster.helm("test", NAME, f"--namespace={release.namespace}", "--logs", "--timeout=120s").stdout
    assert "Phase:          Succeeded" in said, said


def _names(cluster: Cluster, namespace: str) -> set[str]:
    """Everything of a namespace that an operator can make, by kind and name."""
    return set(cluster.kubectl("get", MADE, "-n", namespace, "-o", "name").stdout.split())
