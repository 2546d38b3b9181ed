"""The control plane that tests start: what it demands, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.podding import container, pod
from tests.cluster.tools import CHECKOUT, ToolsMissing, find_tools

ONE_TEST = """
pytest_plugins = ["tests.cluster.plugin"]
def test_it(cluster):
    {}
"""


def pytest_run(folder: Path, body: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A test run of its own: one test, which asks for the cluster."""
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.cluster.plugin"]\n')
    (folder / "test_it.py").write_text(f"def test_it(cluster):\n    {body}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder), *args],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(CHECKOUT), **env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_without_programs_a_test_is_skipped_and_says_why(tmp_path: Path) -> None:
    run = pytest_run(tmp_path, "pass", KUBEBUILDER_ASSETS=str(tmp_path))
    assert run.returncode == 0, run.stdout
    assert "1 skipped" in run.stdout
    assert f"KUBEBUILDER_ASSETS is {tmp_path}, which lacks etcd" in run.stdout.replace("\n", "")


@pytest.mark.parametrize("demand", [{"CI": "true"}, {"TANDEM_TEST_CLUSTER": "required"}])
def test_where_it_is_demanded_a_missing_cluster_is_a_failure(tmp_path: Path, demand: dict[str, str]) -> None:
    run = pytest_run(tmp_path, "pass", KUBEBUILDER_ASSETS=str(tmp_path), **demand)
    assert run.returncode == 1, run.stdout
    assert "1 error" in run.stdout


def test_programs_of_their_own_may_stand_in_the_folder(tmp_path: Path) -> None:
    names = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm"]
    for name in names:
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    tools = find_tools({"KUBEBUILDER_ASSETS": str(tmp_path)})
    assert tools.component("kube-scheduler") == [str(tmp_path / "kube-scheduler")]
    assert tools.clients.helm == str(tmp_path / "helm")
    assert tools.etcd(Path("/data"), "http://a", "http://b")[0] == str(tmp_path / "etcd")


def test_a_folder_without_helm_is_not_enough(tmp_path: Path) -> None:
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]:
        (tmp_path / name).write_text("")
    with pytest.raises(ToolsMissing, match="helm"):
        find_tools({"KUBEBUILDER_ASSETS": str(tmp_path), "PATH": str(tmp_path)})


@pytest.mark.slow
def test_a_killed_test_run_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    # The run kills itself once its cluster is up; only then is there something to leave.
    note = tmp_path / "folder"
    body = (
        f"import os, signal; open({str(note)!r}, 'w').write(str(cluster.kubeconfig.parent)); "
        "cluster.kubectl('get', 'nodes'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    passed = {name: os.environ[name] for name in ("KUBEBUILDER_ASSETS", "XDG_CACHE_HOME") if name in os.environ}
    run = pytest_run(tmp_path, body, f"--basetemp={tmp_path / 'base'}", **passed)
    assert run.returncode == -signal.SIGKILL, run.stdout
    folder = note.read_text()
    left = [process for process in psutil.process_iter() if names(process, folder)]
    psutil.wait_procs(left, timeout=60)
    assert [process for process in left if process.is_running() and names(process, folder)] == []


def names(process: psutil.Process, folder: str) -> bool:
    """Whether a process has the folder in its command line."""
    try:
        return any(folder in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def test_restricted_namespaces_refuse_a_pod_that_may_be_root(cluster: Cluster, namespace: str) -> None:
    free = pod("free", container(securityContext={}), securityContext={"runAsNonRoot": False})
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        cluster.apply(free, namespace=namespace)


def test_an_api_service_is_asked_through_the_api_server(cluster: Cluster, namespace: str) -> None:
    found = cluster.get("configmap", "extension-apiserver-authentication", namespace="kube-system")
    assert found["data"]["requestheader-allowed-names"] == '["front-proxy"]'
    assert "BEGIN CERTIFICATE" in found["data"]["requestheader-client-ca-file"]


def test_the_api_server_keeps_what_it_has_over_a_restart(cluster: Cluster, namespace: str) -> None:
    if cluster.control_plane is None:
        pytest.skip("the cluster that TANDEM_TEST_KUBECONFIG names is not ours to restart")
    cluster.kubectl("create", "configmap", "kept", "-n", namespace)
    cluster.control_plane.restart_api_server(signal.SIGKILL)
    assert cluster.get("configmap", "kept", namespace=namespace)["metadata"]["name"] == "kept"
