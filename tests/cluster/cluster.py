"""What a test has of a cluster: kubectl, helm, and the network."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane
from tests.cluster.tools import Clients

Answer = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's clients, as its administrator."""

    kubeconfig: Path
    clients: Clients
    control_plane: ControlPlane | None
    """None: a cluster of the developer's, whose nodes and network are its own."""

    @property
    def env(self) -> dict[str, str]:
        """For programs of the test's own that read KUBECONFIG; start them inside `entered`."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread's sockets, and what it starts, are in the cluster's network while the block lasts."""
        if self.control_plane is None:
            yield
        else:
            with self.control_plane.network.entered():
                yield

    def run(self, argv: Sequence[str], *, given: str = "", check: bool = True, timeout: float = 120) -> Answer:
        """Runs a program in the cluster's network. Raises `AssertionError` with what it says where it fails."""
        with self.entered():
            answer = subprocess.run(
                argv, input=given, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
            )
        if check and answer.returncode:
            raise AssertionError(f"{' '.join(argv)} exited {answer.returncode}:\n{answer.stderr}{answer.stdout}")
        return answer

    def kubectl(self, *args: str, given: str = "", check: bool = True, timeout: float = 120) -> Answer:
        """Runs kubectl; `given` is its standard input."""
        return self.run([self.clients.kubectl, *args], given=given, check=check, timeout=timeout)

    def helm(self, *args: str, check: bool = True, timeout: float = 300) -> Answer:
        """Runs helm."""
        return self.run([self.clients.helm, *args], check=check, timeout=timeout)

    def apply(self, *objects: Mapping[str, Any], namespace: str = "default") -> None:
        """Applies objects by server-side apply."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-", given=document)

    def make_namespace(self, name: str) -> None:
        """Makes one in which only restricted pods are admitted. What Kubernetes puts into each is there already."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        for given in ("serviceaccount/default", "configmap/kube-root-ca.crt"):
            # One at a time: of several that are not there yet kubectl makes one error, for which it does not wait.
            self.kubectl("wait", "-n", name, given, "--for=create", "--timeout=90s")

    def get(self, *args: str, namespace: str = "default") -> Any:
        """An object (`"pod", "name"`), or a list of them (`"pods", "-l", "a=b"`), as parsed JSON."""
        return json.loads(self.kubectl("get", "-n", namespace, *args, "-o", "json").stdout)

    def wait(self, thing: str, condition: str, namespace: str = "default", seconds: float = 60) -> None:
        """Waits for a condition (`Ready`, `Ready=false`, ...) of `kind/name`. Raises `AssertionError`."""
        self.kubectl(
            *("wait", "-n", namespace, thing, f"--for=condition={condition}", f"--timeout={seconds}s"),
            timeout=seconds + 30,
        )
