"""Services on the test cluster: names and ClusterIPs lead to ready endpoints."""

import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.cluster.network import BRIDGE
from tests.cluster.podding import Pods, container, pod

SERVE = """
import os, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
ASK = """
import sys, time, urllib.request
for attempt in range(500):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
        break
    except OSError as error:
        print(error, file=sys.stderr)
        time.sleep(0.1)
"""


def server(name: str, **labels: str) -> dict[str, Any]:
    return pod(
        name,
        container(
            *("python", "-c", SERVE),
            env=[{"name": "NAME", "value": name}],
            ports=[{"name": "http", "containerPort": 8080}],
            readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        ),
        metadata={"labels": {"app": "server", **labels}},
    )


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": "server"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def cluster_ip(pods: Pods, name: str) -> str:
    return str(pods.cluster.get("service", name, namespace=pods.namespace)["spec"]["clusterIP"])


def answer(url: str) -> str:
    """What a URL says, once it answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as found:
                return str(found.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.usefixtures("inside_cluster")
def test_a_cluster_ip_leads_to_ready_pods(pods: Pods) -> None:
    pods.start(service("web"), server("one"), server("two"))
    url = f"http://{cluster_ip(pods, 'web')}"
    seen: set[str] = set()
    deadline = time.monotonic() + 60
    while seen != {"one", "two"}:
        seen.add(answer(url))
        assert time.monotonic() < deadline, seen


@pytest.mark.usefixtures("inside_cluster")
def test_a_cluster_ip_without_ready_pods_refuses(pods: Pods) -> None:
    pods.start(service("web"), server("one"))
    url = f"http://{cluster_ip(pods, 'web')}"
    answer(url)
    pods.cluster.kubectl("delete", "pod", "one", "-n", pods.namespace)
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=30).close()
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                break
        except OSError:
            pass  # led to the pod that has just gone
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_way_out_of_a_pod_stays_the_same_as_pods_come_and_go(pods: Pods) -> None:
    def gateway() -> str:
        return pods.cluster.run(["ip", "-o", "link", "show", BRIDGE]).stdout.split("link/ether ")[1].split()[0]

    before = gateway()
    for name in ("one", "two", "three"):
        pods.ready(name)
        assert gateway() == before
    for name in ("one", "two", "three"):
        pods.cluster.kubectl("delete", "pod", name, "-n", pods.namespace, "--now")
        assert gateway() == before


@pytest.mark.parametrize("form", ["web", "web.{}", "web.{}.svc", "web.{}.svc.cluster.local"])
def test_pods_find_a_service_by_its_name(pods: Pods, form: str) -> None:
    pods.start(service("web"), server("one"))
    url = f"http://{form.format(pods.namespace)}"
    said = pods.says(f"python -c '{ASK}' {url} 2>/dev/null")
    assert said == "one\n"


def test_a_headless_name_stands_for_the_pods_themselves(pods: Pods) -> None:
    pods.start(service("web", clusterIP="None"), server("one"), server("two"))
    addresses = {pods.until(name, lambda found: "podIP" in found["status"])["status"]["podIP"]
                 for name in ("one", "two")}  # fmt: skip
    script = """
import socket, time
found = set()
while len(found) < 2:
    try:
        found = {one[4][0] for one in socket.getaddrinfo("web", 80)}
    except OSError:
        pass
    time.sleep(0.1)
print(*found)
"""
    assert set(pods.says(f"python -c '{script}'").split()) == addresses


def test_an_unknown_name_is_refused_at_once(pods: Pods) -> None:
    script = """
import socket, time
def seconds():
    begun = time.monotonic()
    try:
        socket.getaddrinfo("no.such.example", 80)
    except OSError:
        return time.monotonic() - begun
# A machine may stand still in one of them.
print(min(seconds() for _ in range(5)) < 5)
"""
    assert pods.says(f"python -c '{script}'") == "True\n"
