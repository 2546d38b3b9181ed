"""External metrics, asked for through the API server as an autoscaler does."""

import base64
import datetime
import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.pki import Authority
from tests.cluster.programs import BackgroundProgram
from tests.loopback import free_port
from tests.operator_live.platform import Platform, service, until

GROUP = "external.metrics.k8s.io"
LABELS = "tandem.dev/service=one,tandem.dev/version=v1,tandem.dev/role={role}"


@pytest.fixture
def port(platform: Platform, tmp_path: Path) -> int:
    """An adapter that the API server asks for external metrics; its port on the cluster's address."""
    if platform.cluster.control_plane is None:
        pytest.skip("would take a developer's cluster its external metrics")
    port, name, namespace = free_port(), "adapter", platform.namespace
    folder = tmp_path / "tls"
    folder.mkdir()
    authority = Authority(folder, "ca", datetime.datetime.now(datetime.UTC))
    pair = authority.server("tls", [f"{name}.{namespace}.svc"])
    assert (pair.certificate.name, pair.key.name) == ("tls.crt", "tls.key")
    settings = tmp_path / "adapter.yaml"
    settings.write_text(yaml.safe_dump({"router": {"namespace": namespace, "port": platform.router_port}}))
    argv = [sys.executable, "-m", "tandem_operator.adapter", "--settings", str(settings), "--tls", str(folder)]
    with platform.cluster.entered():
        program = BackgroundProgram([*argv, "--port", str(port)], tmp_path / "adapter.log", platform.cluster.env)
    platform.stack.callback(program.stop)
    slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.77.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    ports = [{"name": "https", "port": 443, "targetPort": port}]
    platform.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}},
        slice,
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"v1beta1.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"name": name, "namespace": namespace, "port": 443},
                "caBundle": base64.b64encode(authority.pair.certificate.read_bytes()).decode(),
            },
        },
    )
    platform.stack.callback(platform.cluster.kubectl, "delete", "apiservice", f"v1beta1.{GROUP}")
    platform.cluster.wait(f"apiservice/v1beta1.{GROUP}", "Available", seconds=120)
    # It leads there a moment later.
    until(lambda: "items" in _ask(platform, "tandem_queue_depth", LABELS.format(role="decode")))
    return port


def _ask(platform: Platform, metric: str, selector: str) -> dict:
    path = f"/apis/{GROUP}/v1beta1/namespaces/{platform.namespace}/{metric}?labelSelector={selector}"
    answer = platform.cluster.kubectl("get", "--raw", path, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {"refused": answer.stderr}


def test_an_autoscaler_gets_what_the_routers_say(platform: Platform, port: int) -> None:
    router = platform.router()
    platform.apply(service())
    with platform.operator():
        pods = until(lambda: found if len(found := platform.list("pods")) == 2 else [])
        resource = until(lambda: found if (found := platform.get("tisvc", "one")).get("status") else {})
        router.says(resource, pods, waiting=3)
    found = until(lambda: _ask(platform, "tandem_queue_depth", LABELS.format(role="decode")).get("items"))
    assert [item["value"] for item in found] == ["3000m"]
    assert found[0]["metricLabels"]["tandem.dev/role"] == "decode"
    (share,) = until(lambda: _ask(platform, "tandem_kv_use", LABELS.format(role="prefill")).get("items"))
    assert share["value"] == "0m"


def test_metrics_that_nobody_can_tell_are_not_told(platform: Platform, port: int) -> None:
    assert _ask(platform, "tandem_queue_depth", LABELS.format(role="decode"))["items"] == []
    assert "tandem_queue_depth" in _ask(platform, "tandem_weather", LABELS.format(role="decode"))["refused"]
    assert "tandem.dev/role" in _ask(platform, "tandem_ttft", "tandem.dev/service=one")["refused"]


def test_only_the_api_server_gets_in(platform: Platform, port: int, tmp_path: Path) -> None:
    url = f"https://10.77.0.1:{port}/apis/{GROUP}/v1beta1"
    assert platform.cluster.run(["curl", "-sSk", url], check=False).returncode != 0
    stranger = Authority(tmp_path, "stranger", datetime.datetime.now(datetime.UTC)).client("front-proxy")
    certificate = ["--cert", str(stranger.certificate), "--key", str(stranger.key)]
    assert platform.cluster.run(["curl", "-sSk", *certificate, url], check=False).returncode != 0
