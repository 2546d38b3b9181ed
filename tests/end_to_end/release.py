"""An installation of the chart."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.cluster import Cluster
from tests.cluster.tools import CHECKOUT

NAME = "tandem"
CHART = CHECKOUT / "charts" / "tandem"
SAMPLES = CHECKOUT / "deploy" / "samples"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True, slots=True)
class Release:
    """A release `tandem` in a namespace of its own."""

    cluster: Cluster
    namespace: str

    @property
    def url(self) -> str:
        """Of the routers, for clients inside the cluster's network."""
        service = self.cluster.get("service", f"{NAME}-router", namespace=self.namespace)
        return f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1"


@contextmanager
def installed(cluster: Cluster, namespace: str, **values: object) -> Iterator[Release]:
    """Installs the chart and waits for its pods; uninstalls it at the end. The CRD may be there of another test."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}})
    told = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    try:
        cluster.helm(
            *("install", NAME, str(CHART), f"--namespace={namespace}", "--wait", "--timeout=120s"),
            *("--take-ownership", "--force-conflicts", *told),
        )
        yield Release(cluster, namespace)
    finally:
        cluster.helm("uninstall", NAME, f"--namespace={namespace}", "--ignore-not-found", "--wait", check=False)
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
