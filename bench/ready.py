"""How soon the sample with virtual engines answers: by `kubectl apply` on the test cluster, and by `tandem up`.

From the command to the end of a chat that was streamed through prefill and decode. The chart is installed already, as
on a cluster in use; there are no images, because the test cluster's node runs programs of the checkout.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.processes import ROOT
from tests.cli.command import tandem_up
from tests.cluster.cluster import Cluster
from tests.cluster.cluster_node import running_node
from tests.cluster.control_plane import running_control_plane
from tests.cluster.tools import find_tools
from tests.end_to_end.asking import streamed_chat
from tests.end_to_end.release import Release, installed

SAMPLE = ROOT / "deploy" / "samples" / "virtual.yaml"
MODEL = "rehearsal"
TIMES = 5


def run() -> dict[str, Any]:
    """Measures both, and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        results = {"kubectl apply": _apply(Path(folder)), "tandem up": _up(Path(folder))}
    for name, seconds in results.items():
        listed = ", ".join(f"{each:.1f}" for each in seconds)
        print(f"{name:14}  median {statistics.median(seconds):.1f} s  ({listed})", flush=True)
    return {name: {"seconds": seconds, "median": statistics.median(seconds)} for name, seconds in results.items()}


def _apply(folder: Path) -> list[float]:
    with _platform(folder) as release:
        cluster = release.cluster
        url = release.url
        took = []
        for number in range(TIMES):
            namespace = f"measured-{number}"
            cluster.kubectl("create", "namespace", namespace)
            began = time.monotonic()
            cluster.kubectl("apply", "-n", namespace, "-f", str(SAMPLE))
            cluster.wait(f"inferenceservice/{MODEL}", "Ready", namespace)
            with cluster.entered():
                streamed_chat(url, MODEL)
            took.append(time.monotonic() - began)
            cluster.kubectl("delete", "namespace", namespace)
        return took


@contextmanager
def _platform(folder: Path) -> Iterator[Release]:
    with ExitStack() as stack:
        tools = find_tools(os.environ)
        plane = stack.enter_context(running_control_plane(tools, folder / "control-plane"))
        cluster = Cluster(plane.kubeconfig, tools.clients, plane)
        node = stack.enter_context(running_node("node", cluster, plane, folder / "node", {}))
        cluster.kubectl("uncordon", node.name)
        yield stack.enter_context(installed(cluster, "tandem-system"))


def _up(folder: Path) -> list[float]:
    took = []
    for _ in range(TIMES):
        began = time.monotonic()
        with tandem_up(folder, "-f", SAMPLE) as up:
            streamed_chat(f"{up.url}/v1", MODEL)
            took.append(time.monotonic() - began)
    return took
