"""The node's program, started beside a control plane."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import ControlPlane
from tests.cluster.programs import BackgroundProgram
from tests.cluster.tools import CHECKOUT


class ClusterNode:
    """A node of the test cluster."""

    def __init__(self, name: str, cluster: Cluster, folder: Path, program: BackgroundProgram) -> None:
        self.name = name
        self.folder = folder
        self._cluster = cluster
        self._program = program

    def check(self) -> None:
        """Raises `RuntimeError` with the log's end where the node is gone."""
        self._program.check()

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container has said so far, of all its runs, also after the pod is gone."""
        path = self.folder / "logs" / namespace / pod / f"{container}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def offer(self, **resources: str) -> None:
        """Sets what the node has of extended resources, such as `**{"nvidia.com/gpu": "4"}`."""
        patch = {"status": {"capacity": resources, "allocatable": resources}}
        self._cluster.kubectl("patch", "node", self.name, "--subresource=status", "-p", json.dumps(patch))


@contextmanager
def running_node(
    name: str, cluster: Cluster, plane: ControlPlane, folder: Path, resources: Mapping[str, str]
) -> Iterator[ClusterNode]:
    """A ready node for as long as the block lasts; its pods end with it."""
    folder.mkdir()
    identity = plane.kubelet_identity
    command = [
        *("unshare", "--mount", "--propagation", "private"),
        *(sys.executable, "-m", "tests.cluster.node"),
        *("--kubeconfig", str(plane.kubeconfig), "--folder", str(folder)),
        *("--certificate", str(identity.certificate), "--key", str(identity.key)),
        *("--node", f"{name}={json.dumps(dict(resources))}"),
    ]
    # uvloop forks where asyncio would vfork, and gRPC's handlers of a fork crash parent or child while probes are out.
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "GRPC_ENABLE_FORK_SUPPORT": "0"}
    with cluster.entered():
        program = BackgroundProgram(command, folder / "node.log", env)
    try:
        node = ClusterNode(name, cluster, folder, program)
        cluster.kubectl("wait", f"node/{name}", "--for=create", "--timeout=90s")
        cluster.wait(f"node/{name}", "Ready", seconds=90)
        yield node
    finally:
        program.stop()
