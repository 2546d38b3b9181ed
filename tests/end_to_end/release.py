"""An installation of the chart."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.cluster.cluster import Cluster
from tests.cluster.tools import CHECKOUT
from tests.end_to_end.following import Json

NAME = "tandem"
CHART = CHECKOUT / "charts" / "tandem"
SAMPLES = CHECKOUT / "deploy" / "samples"


@dataclass(frozen=True, slots=True)
class Release:
    """A release `tandem` in a namespace of its own."""

    cluster: Cluster
    namespace: str
    url: str
    """Of the routers, for clients inside the cluster's network."""

    def routers(self) -> list[Json]:
        """Their pods, but for those that are about to go."""
        pods = self.cluster.get("pods", "-l", "app.kubernetes.io/component=router", namespace=self.namespace)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


@contextmanager
def installed(cluster: Cluster, namespace: str, **values: object) -> Iterator[Release]:
    """Installs the chart and waits for its pods; uninstalls it at the end. The CRD may be there of another test.

    No key is asked for, unless `auth` says so.
    """
    cluster.make_namespace(namespace)
    values = {"auth": {"required": False}} | values
    told = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    try:
        cluster.helm(
            *("install", NAME, str(CHART), f"--namespace={namespace}", "--wait", "--timeout=240s"),
            *("--take-ownership", "--force-conflicts", *told),
        )
        service = cluster.get("service", f"{NAME}-router", namespace=namespace)["spec"]
        yield Release(cluster, namespace, f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1")
    finally:
        cluster.helm(
            "uninstall", NAME, f"--namespace={namespace}", "--ignore-not-found", "--wait", "--timeout=240s", check=False
        )
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
