"""Every sample, as it is, on a cluster without GPUs: the chart's `rehearse: true` runs them on virtual engines."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.cli.command import tandem_up
from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import ClusterNode
from tests.end_to_end.asking import streamed_chat, wait_complete, wait_ready
from tests.end_to_end.processes import Process, workers
from tests.end_to_end.release import SAMPLES, Release, installed

EVERY = sorted(SAMPLES.glob("*.yaml"))
NEEDED = {
    "hugging-face": ("Opaque", {"HF_TOKEN": "hf_none"}),
    "model-bucket": ("Opaque", {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}),
    "licenses": ("Opaque", {"assistant": "none"}),
    "acme-registry": ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": '{"auths": {}}'}),
}
"""Secrets that samples name: what their users have in place."""

SECONDS = 300


@pytest.fixture(scope="module")
def rehearsal(cluster: Cluster, cluster_node: ClusterNode) -> Iterator[Release]:
    with installed(cluster, f"tandem-{secrets.token_hex(4)}", rehearse=True) as release:
        yield release


@pytest.fixture(scope="module")
def applied(cluster: Cluster, rehearsal: Release) -> Iterator[str]:
    """The namespace of all samples, which start side by side."""
    name = f"samples-{secrets.token_hex(4)}"
    cluster.make_namespace(name)
    given = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "type": type, "stringData": data}
        for secret, (type, data) in NEEDED.items()
    ]
    cluster.apply(*given, namespace=name)
    cluster.kubectl("apply", "-n", name, "-f", str(SAMPLES))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("inside_cluster")
@pytest.mark.parametrize("sample", EVERY, ids=lambda path: path.stem)
def test_a_sample_gets_ready_and_streams_a_chat(
    cluster: Cluster, rehearsal: Release, applied: str, sample: Path
) -> None:
    manifest = yaml.safe_load(sample.read_text())
    name = manifest["metadata"]["name"]
    wait_ready(cluster, applied, name, SECONDS)
    assert streamed_chat(rehearsal.url, manifest["spec"].get("model", name))


COMPARED = ("virtual", "private", "rehearsal")
"""Samples with and without variables, parallelism and settings of the virtual engine."""
ELSEWHERE = {
    *("POD_NAME", "POD_NAMESPACE", "POD_IP", "HOSTNAME"),  # names and addresses
    *("HOME", "TMPDIR"),  # mounts
    *("XDG_CACHE_HOME", "TANDEM_CACHE"),  # the user's caches, where a cluster has claims
    *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"),  # discovery
    "TANDEM_REGISTRY_URL",  # discovery: a laptop always has a registry, and tells all its pods where
    *("GRPC_VERBOSITY", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"),  # of what starts it, where images have their own
}
"""Variables that may differ between a cluster and a laptop, beside those that the laptop's user has set anyway."""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rehearsal_on_a_laptop_starts_what_the_pods_run(cluster: Cluster, applied: str, tmp_path: Path) -> None:
    """They differ in names, addresses, paths of mounts and discovery; images and GPU requests are no process's."""
    files = [SAMPLES / f"{name}.yaml" for name in COMPARED]
    services = {yaml.safe_load(file.read_text())["metadata"]["name"] for file in files}
    for service in services:
        wait_complete(cluster, applied, service, SECONDS)
    with tandem_up(tmp_path, *(word for file in files for word in ("-f", file)), "--engine", "virtual") as up:
        started = psutil.Process(up.process.pid).children(recursive=True)
        laptop = sorted((_essence(process) for process in workers("default", started)), key=repr)
    pods = [_essence(process) for process in workers(applied)]
    assert {of[0] for of, *_ in laptop} == services
    there = sorted((essence for essence in pods if essence[0][0] in services), key=repr)
    for here, pod in zip(laptop, there, strict=True):
        assert here == pod


def _essence(process: Process) -> tuple[Any, ...]:
    """What must not differ. A path stands for the name of what it leads to."""
    program, *args = process.argv
    own = {name: value for name, value in process.env.items() if name not in ELSEWHERE | os.environ.keys()}
    # A revision is named by all that makes it, the image included.
    config = {**process.config, "service": process.belongs_to[0], "revision": ""}
    return process.belongs_to, (Path(program).name, *(Path(word).name for word in args)), own, config
