"""An operator of this checkout, as a program of its own, on a real API server without nodes.

Nobody runs pods there: a test that needs them ready says so in their status itself, as a kubelet would.
"""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.cluster import Cluster
from tests.cluster.programs import BackgroundProgram
from tests.loopback import free_port
from tests.operator_live.fake_router import FakeRouter

SECONDS = 60.0
CHILDREN = ",".join(
    (
        *("deployments", "services", "configmaps", "serviceaccounts"),
        *("poddisruptionbudgets", "networkpolicies", "horizontalpodautoscalers"),
    )
)
WRITES = ("apply", "patch", "scale", "delete")

Json = dict[str, Any]
T = TypeVar("T")


def until(what: Callable[[], T], seconds: float = SECONDS) -> T:
    """The first answer that is true. Fails with the last one."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"still {answer!r} after {seconds} s"
        time.sleep(0.1)
    return answer


class Operator:
    """One that runs, for one namespace."""

    def __init__(self, program: BackgroundProgram, cluster: Cluster, metrics_port: int) -> None:
        self._program = program
        self._cluster = cluster
        self._metrics_port = metrics_port

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Samples by name and labels."""
        answer = self._cluster.run(["curl", "-sf", f"http://127.0.0.1:{self._metrics_port}/metrics"], check=False)
        families = text_string_to_metric_families(answer.stdout)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def writes(self) -> float:
        """Requests so far that change something."""
        return sum(
            value
            for (name, labels), value in self.metrics().items()
            if name == "tandem_operator_api_requests_total" and dict(labels)["verb"] in WRITES
        )

    def looks(self, *results: str) -> float:
        """Looks at services so far, or those of them that came to one of these results."""
        return sum(
            value
            for (name, labels), value in self.metrics().items()
            if name == "tandem_operator_reconciles_total" and (not results or dict(labels)["result"] in results)
        )

    def settled(self) -> None:
        """Waits until a look has found all to be there, and nothing has been written for two seconds.

        It may write again: of what others have yet to make of a service, its status tells.
        """
        until(lambda: self.looks("settled"))

        def quiet() -> bool:
            before = self.writes()
            time.sleep(2)
            return self.writes() == before

        until(quiet)

    def log(self) -> list[Json]:
        return [json.loads(line) for line in self._program.log.read_text().splitlines()]

    def stop(self) -> None:
        self._program.stop()


@dataclass(slots=True)
class Platform:
    """A namespace and what a test does in it."""

    cluster: Cluster
    namespace: str
    folder: Path
    stack: ExitStack
    router_port: int = field(default_factory=free_port)

    @contextmanager
    def operator(self, env: Mapping[str, str] | None = None, **settings: Any) -> Iterator[Operator]:
        """An operator while the block lasts. Keyword arguments: fields of its settings."""
        metrics = free_port()
        file = self.folder / f"settings-{secrets.token_hex(4)}.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "namespaces": [self.namespace],
                    "router": {"namespace": self.namespace, "port": self.router_port, "url": "http://router.test/v1"},
                    "healthPort": 0,
                    "metricsPort": metrics,
                    **settings,
                }
            )
        )
        argv = [sys.executable, "-m", "tandem_operator", "--settings", str(file)]
        with self.cluster.entered():
            program = BackgroundProgram(argv, file.with_suffix(".log"), {**self.cluster.env, **(env or {})})
        operator = Operator(program, self.cluster, metrics)
        try:
            until(lambda: program.check() or operator.metrics())
            yield operator
        finally:
            program.stop()

    def apply(self, *objects: Json) -> None:
        self.cluster.apply(*objects, namespace=self.namespace)

    def get(self, *args: str) -> Any:
        return self.cluster.get(*args, namespace=self.namespace)

    def list(self, kinds: str, selector: str = "tandem.dev/service") -> list[Json]:
        items: list[Json] = self.get(kinds, "-l", selector)["items"]
        return items

    def delete(self, *args: str) -> None:
        self.cluster.kubectl("delete", "-n", self.namespace, *args)

    def condition(self, service: str, type: str) -> Json:
        """A condition of a service, empty before it is there."""
        status = self.get("tisvc", service).get("status", {})
        return next((one for one in status.get("conditions", ()) if one["type"] == type), {})

    def set_status(self, pod: str, **status: Any) -> None:
        """Writes a pod's status, as a kubelet would."""
        self.cluster.kubectl(
            *("patch", "pod", pod, "-n", self.namespace, "--subresource=status", "--type=strategic"),
            *("-p", json.dumps({"status": status})),
        )

    def containers_ready(self, pod: str) -> None:
        self.set_status(pod, phase="Running", conditions=[{"type": "ContainersReady", "status": "True"}])

    def router(self, name: str = "router-0") -> FakeRouter:
        """A router's pod, and a server that answers for it on the cluster's own address."""
        if self.cluster.control_plane is None:
            pytest.skip("a stand-in router has no address in a cluster of the developer's")
        labels = {"app.kubernetes.io/name": "tandem", "app.kubernetes.io/component": "router"}
        security = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels},
                "spec": {"containers": [{"name": "router", "image": "router", "securityContext": security}]},
            }
        )
        with self.cluster.entered():
            router = self.stack.enter_context(FakeRouter(name, "10.77.0.1", self.router_port))
        self.set_status(
            name,
            phase="Running",
            podIP="10.77.0.1",
            podIPs=[{"ip": "10.77.0.1"}],
            conditions=[{"type": "Ready", "status": "True"}],
        )
        return router


def service(name: str = "one", **spec: Any) -> Json:
    """A service with virtual engines: one prefill, one decode worker."""
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "versions": [{"name": "v1", "engine": {"type": "virtual"}}],
            "prefill": {"replicas": 1},
            "decode": {"replicas": 1},
            **spec,
        },
    }
