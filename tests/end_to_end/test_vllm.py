"""Real vLLM in prefill and decode pods: a tiny model from a claim, a streamed chat, and KV that went between them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.asking import streamed_chat, wait_ready
from tests.end_to_end.release import Release
from tests.end_to_end.services import model, service

ARGS = ["--max-model-len=2048", "--max-num-seqs=4", "--kv-cache-memory-bytes=67108864", "--seed=0"]


@pytest.fixture
def claim(cluster: Cluster, namespace: str, tiny_llama: Path, tmp_path: Path) -> Iterator[str]:
    """A claim, `models`, of a volume with the model in its folder `tiny`."""
    shutil.copytree(tiny_llama, tmp_path / "tiny")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    name, room = f"models-of-{namespace}", {"storage": "1Gi"}
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {**shared, "capacity": room, "hostPath": {"path": str(tmp_path)}}
    wanted = {**shared, "volumeName": name, "resources": {"requests": room}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": wanted},
        namespace=namespace,
    )
    yield "models"
    cluster.kubectl("delete", "pv", name, "--wait=false")


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
def test_a_pair_on_real_vllm_gets_ready_and_streams_a_chat(
    cluster: Cluster, cluster_node: ClusterNode, release: Release, namespace: str, claim: str
) -> None:
    version = {"name": "v1", "source": f"pvc://{claim}/tiny", "engine": {"type": "vllm", "args": ARGS}}
    cluster.apply(service("tiny", namespace, version), namespace=namespace)
    wait_ready(cluster, namespace, "tiny", seconds=400)
    name = model("tiny", namespace)
    question = "How does the KV cache of a prompt get from one worker to another? " * 4
    assert streamed_chat(release.url, name, question, max_tokens=8)
    moved = sum(
        _moved(pod) for pod in cluster.get("pods", "-l", "tandem.dev/role=decode", namespace=namespace)["items"]
    )
    assert moved > 0


def _moved(pod: dict[str, dict[str, str]]) -> float:
    """Bytes of KV that a decode worker has fetched."""
    text = httpx.get(f"http://{pod['status']['podIP']}:9002/metrics", timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith("tandem_worker_kv_received_bytes_total")]
    assert lines, text
    return sum(float(line.rpartition(" ")[2]) for line in lines)
