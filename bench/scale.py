"""What the operator costs: many services on a real API server without nodes, beside plain server-side apply.

No pod runs, so what is measured is the operator, the API server and Kubernetes' own controllers, all on one machine.
The plain side writes the very objects that the operator made, eight at a time as the operator does, and nothing else:
no watches, no plans, no statuses.
"""

import asyncio
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tandem_api.crd import crd
from tandem_operator.cluster import CHILDREN, SERVICES, ApiError, Cluster, Kind, connect

from bench.processes import ROOT, free_port, log_file
from tests.cluster.control_plane import running_control_plane
from tests.cluster.tools import find_tools

SIZES = (50, 100, 200)
AT_ONCE = 8
STEADY_SECONDS = 20
STANDING_SECONDS = 275
"""After which all pods, of which the first were made at once, have waited for between 3 and 5 minutes."""
NAMESPACE = Kind("", "v1", "Namespace", "namespaces")
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
WRITES = ("apply", "patch", "scale", "delete")


def run() -> dict[str, Any]:
    """Measures all sizes, and prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for size in SIZES:
            # A control plane of its own for each size: none has the pods of the former ones to look after.
            plane = running_control_plane(find_tools(os.environ), Path(folder) / str(size))
            with plane as control_plane, control_plane.network.entered():
                os.environ["KUBECONFIG"] = str(control_plane.kubeconfig)
                results[size] = asyncio.run(_measure(size, Path(folder)))
            print(f"{size:4}  {json.dumps(results[size])}", flush=True)
    return {"sizes": results}


async def _measure(size: int, folder: Path) -> dict[str, Any]:
    async with connect(time.monotonic, lambda *_: None) as cluster:
        await cluster.apply(CRD, None, crd())
        await asyncio.sleep(3)  # until it is served
        for name in ("made", "plain"):
            await cluster.apply(NAMESPACE, None, _object(NAMESPACE, name))
        await asyncio.sleep(2)  # until the namespaces have their own ServiceAccounts and ConfigMaps
        with _Operator(folder) as operator:
            await operator.started()
            resting = operator.cpu()
            began = time.monotonic()
            await _apply_all(cluster, "made", [(SERVICES, _service(number)) for number in range(size)])
            applied = time.monotonic() - began
            total = await _all_there(cluster, "made", size)
            made, cpu = time.monotonic() - began, operator.cpu()
            calls = await operator.settled()
            settled = time.monotonic() - began
            steady = await _steady(operator, began) if size == max(SIZES) else None
            rss = operator.resident_mib()
        objects = await _children(cluster, "made")
        began = time.monotonic()
        await _apply_all(cluster, "plain", objects)
        plain = time.monotonic() - began
    return {
        "children": total,
        "apply_s": round(applied, 2),
        "all_children_s": round(made, 2),
        "settled_s": round(settled, 2),
        "plain_s": round(plain, 2),
        "times_plain": round(made / plain, 2),
        "ms_per_service": round(made / size * 1000, 1),
        "cpu_ms_per_service": round((cpu - resting) / size * 1000, 1),
        "rss_mib": rss,
        "writes_per_service": round(_writes(calls) / size, 1),
        "status_writes_per_service": round(calls.get(("apply", "InferenceService/status"), 0) / size, 1),
        "steady": steady,
    }


async def _steady(operator: "_Operator", began: float) -> dict[str, Any]:
    """What a standing state costs. A status says in coarse steps how long its pods wait for a node: between two."""
    await asyncio.sleep(began + STANDING_SECONDS - time.monotonic())
    before, cpu = await operator.calls(), operator.cpu()
    await asyncio.sleep(STEADY_SECONDS)
    later = await operator.calls()
    return {
        "writes": _writes(later) - _writes(before),
        "requests_per_s": round((sum(later.values()) - sum(before.values())) / STEADY_SECONDS, 1),
        "cpu_percent": round((operator.cpu() - cpu) / STEADY_SECONDS * 100, 1),
    }


def _object(kind: Kind, name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, **fields}


def _service(number: int) -> dict[str, Any]:
    spec = {
        "versions": [{"name": "v1", "engine": {"type": "virtual"}}],
        "prefill": {"replicas": 1},
        "decode": {"replicas": 1},
    }
    return _object(SERVICES, f"service-{number}", spec=spec)


async def _apply_all(cluster: Cluster, namespace: str, objects: list[tuple[Kind, dict[str, Any]]]) -> None:
    waiting = iter(objects)

    async def work() -> None:
        for kind, body in waiting:
            await cluster.apply(kind, namespace, body)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


async def _count(cluster: Cluster, kind: Kind, namespace: str) -> int:
    listed = await cluster.list_metadata(kind, namespace, "tandem.dev/service")
    return len(listed["items"])


async def _all_there(cluster: Cluster, namespace: str, size: int) -> int:
    """Waits until each service has a Deployment for both roles and all that stands beside them. Returns the number."""
    per_service: dict[Kind, int] = {}
    while not per_service:
        # What one service has is what each has to have: the first that is complete says it.
        await asyncio.sleep(0.2)
        try:
            status = (await cluster.get(SERVICES, namespace, "service-0")).get("status")
        except ApiError:
            continue
        if status:
            mine = "tandem.dev/service=service-0"
            listed = {kind: await cluster.list_metadata(kind, namespace, mine) for kind in CHILDREN}
            per_service = {kind: len(one["items"]) for kind, one in listed.items() if one["items"]}
    for kind, count in per_service.items():
        while await _count(cluster, kind, namespace) < count * size:  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.1)
    return sum(per_service.values()) * size


async def _children(cluster: Cluster, namespace: str) -> list[tuple[Kind, dict[str, Any]]]:
    """What the operator made, as it applied it, without owners: these have none."""
    made = []
    for kind in CHILDREN:
        for item in (await cluster.list(kind, namespace, "tandem.dev/service"))["items"]:
            body = copy.deepcopy(item)
            meta = body["metadata"]
            body["metadata"] = {
                "name": meta["name"],
                "labels": meta["labels"],
                "annotations": {"tandem.dev/applied": meta["annotations"]["tandem.dev/applied"]},
            }
            body.pop("status", None)
            for allocated in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                body.get("spec", {}).pop(allocated, None)
            made.append((kind, {"apiVersion": kind.api_version, "kind": kind.name, **body}))
    return made


def _writes(calls: Mapping[tuple[str, str], float]) -> int:
    return int(sum(count for (verb, _), count in calls.items() if verb in WRITES))


class _Operator:
    """The operator as a program of its own."""

    def __init__(self, folder: Path) -> None:
        self._metrics_port = free_port()
        settings = folder / "settings.yaml"
        settings.write_text(
            yaml.safe_dump(
                {
                    "namespaces": ["made"],
                    "router": {"namespace": "made"},
                    "healthPort": 0,
                    "metricsPort": self._metrics_port,
                    "networkPolicies": {"enabled": True},
                    "logLevel": "warning",
                    "workers": AT_ONCE,
                }
            )
        )
        self._log = log_file("operator").open("w")
        self._process = psutil.Popen(
            [sys.executable, "-m", "tandem_operator", "--settings", str(settings)],
            cwd=ROOT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> "_Operator":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except psutil.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    async def started(self) -> None:
        while not await self.calls():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # until all lists are read

    async def calls(self) -> dict[tuple[str, str], float]:
        """Requests to the API server so far, by verb and kind; watches aside."""
        made: dict[tuple[str, str], float] = {}
        try:
            async with httpx.AsyncClient() as http:
                text = (await http.get(f"http://127.0.0.1:{self._metrics_port}/metrics")).text
        except httpx.HTTPError:
            return {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "tandem_operator_api_requests_total":
                    key = sample.labels["verb"], sample.labels["kind"]
                    made[key] = made.get(key, 0) + sample.value
        return made

    async def settled(self) -> dict[tuple[str, str], float]:
        """Waits until nothing is written for three seconds. Returns the requests until then."""
        while True:
            before = await self.calls()
            await asyncio.sleep(3)
            if _writes(await self.calls()) == _writes(before):
                return before

    def cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def resident_mib(self) -> int:
        return int(self._process.memory_info().rss / 2**20)
