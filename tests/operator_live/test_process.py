"""The operator as a process: signals, settings, and an API server that goes away for a while."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tandem_operator.cluster import connect
from tandem_operator.store import Store
from tandem_operator.watching import WATCHED, gone, selector

from tests.loopback import free_port
from tests.operator_live.platform import Platform, service, until


def test_it_ends_in_order_on_sigterm(platform: Platform) -> None:
    platform.apply(service())
    port = free_port()
    with platform.operator(healthPort=port) as operator:
        operator.settled()
        healthy = ["curl", "-sf", f"http://127.0.0.1:{port}/healthz"]
        until(lambda: platform.cluster.run(healthy, check=False).returncode == 0)
        operator.stop()
        last = operator.log()[-1]
    assert (last["message"], last["level"]) == ("stopped", "info")
    assert not [line for line in operator.log() if line["level"] == "error" or "healthz" in json.dumps(line)]


def test_it_goes_on_after_the_api_server_was_away(platform: Platform) -> None:
    plane = platform.cluster.control_plane
    if plane is None:
        pytest.skip("a developer's API server is not ours to restart")
    platform.apply(service())
    with platform.operator() as operator:
        operator.settled()
        plane.restart_api_server(9)
        until(lambda: platform.cluster.kubectl("get", "tisvc", check=False).returncode == 0)
        platform.apply(service(decode={"replicas": 2}))
        until(lambda: {d["spec"]["replicas"] for d in platform.list("deployments")} == {1, 2}, 120)
        operator.settled()


async def test_a_comparison_with_the_cluster_finds_what_is_gone_and_stands_empty_lists(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(platform.cluster.kubeconfig))
    store = Store()
    platform.apply(service())
    for name in ("one", "gone"):
        resource = platform.get("tisvc", "one")
        resource["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
        store.put("InferenceService", resource)
    resource = platform.get("tisvc", "one")
    store.remove("InferenceService", platform.namespace, "one", "uid-one")
    store.put("InferenceService", resource)
    with platform.cluster.entered():
        async with connect(time.monotonic, lambda *_: None) as cluster:
            found = set()
            for kind in WATCHED:
                listed = await cluster.list_metadata(kind, platform.namespace, selector(kind))
                found |= gone(store, kind, platform.namespace, listed)
    assert found == {(platform.namespace, "gone")}
    assert store.services() == [(platform.namespace, "one")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("logLevel: loud", "logLevel"),
        ("rooter: {}", "rooter"),
        ("{", "is not YAML"),
    ],
)
def test_settings_that_can_not_be_used_are_refused_with_their_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    argv = [sys.executable, "-m", "tandem_operator", "--settings", str(file)]
    answer = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert str(file) in answer.stderr
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_charts_settings_are_understood(platform: Platform) -> None:
    root = Path(__file__).parents[2]
    rendered = platform.cluster.helm(
        *("template", "tandem", str(root / "charts/tandem"), "--namespace", "tandem-system"),
        *("--show-only", "templates/operator/settings.yaml", "--set", "tls.secretName=tls", "--set", "rehearse=true"),
    )
    import yaml
    from tandem_operator.installed import installation_of
    from tandem_operator.settings import load

    file = platform.folder / "chart.yaml"
    file.write_text(yaml.safe_load(rendered.stdout)["data"]["settings.yaml"])
    installation = installation_of(load(file))
    assert installation.rehearse
    assert installation.settings.tls_secret == "tls"
    assert installation.policies is not None
