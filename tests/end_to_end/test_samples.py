"""Every sample, as it is, on a cluster without GPUs: the chart's `rehearse: true` runs them on virtual engines."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.asking import streamed_chat
from tests.end_to_end.release import RESTRICTED, SAMPLES, Release, installed

EVERY = sorted(SAMPLES.glob("*.yaml"))
NEEDED = {
    "hugging-face": ("Opaque", {"HF_TOKEN": "hf_none"}),
    "model-bucket": ("Opaque", {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}),
    "licenses": ("Opaque", {"assistant": "none"}),
    "acme-registry": ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": '{"auths": {}}'}),
}
"""Secrets that samples name: what their users have in place."""


@pytest.fixture(scope="module")
def rehearsal(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", rehearse=True) as release:
        yield release


@pytest.fixture(scope="module")
def applied(cluster: Cluster, rehearsal: Release) -> Iterator[str]:
    """The namespace of all samples, which start side by side."""
    name = f"samples-{secrets.token_hex(4)}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    given = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "type": type, "stringData": data}
        for secret, (type, data) in NEEDED.items()
    ]
    cluster.apply(*given, namespace=name)
    cluster.kubectl("apply", "-n", name, "-f", str(SAMPLES))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.slow
@pytest.mark.usefixtures("inside_cluster")
@pytest.mark.parametrize("sample", EVERY, ids=lambda path: path.stem)
def test_a_sample_gets_ready_and_streams_a_chat(
    cluster: Cluster, rehearsal: Release, applied: str, sample: Path
) -> None:
    manifest = yaml.safe_load(sample.read_text())
    name = manifest["metadata"]["name"]
    cluster.wait(f"inferenceservice/{name}", "Ready", applied, seconds=180)
    assert streamed_chat(rehearsal.url, manifest["spec"].get("model", name))
