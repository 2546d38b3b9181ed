"""A container on the node sees what it would see in a real one, and can do no more."""

import json
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.podding import Pods, container, pod, state


def test_runs_as_the_user_and_the_groups_of_its_security_context(pods: Pods) -> None:
    said = pods.says("id -u; id -g; id -G", securityContext={"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456})
    assert said.split() == ["1234", "2345", "2345", "3456"]


def test_has_no_capability_and_gets_none(pods: Pods) -> None:
    said = pods.says("grep -E '^(Cap|NoNewPrivs)' /proc/self/status")
    values = dict(line.split(":\t") for line in said.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert {int(value, 16) for value in values.values()} == {0}


def test_cannot_write_to_a_read_only_root(pods: Pods) -> None:
    said = pods.says("for folder in / /tmp /etc /run; do touch $folder/x 2>/dev/null || echo no $folder; done")
    assert said.split("\n") == ["no /", "no /tmp", "no /etc", "no /run", ""]


def test_root_is_refused_where_the_pod_must_not_run_as_root(pods: Pods) -> None:
    pods.cluster.kubectl("label", "namespace", pods.namespace, "--overwrite",
                         "pod-security.kubernetes.io/enforce=privileged")  # fmt: skip
    root = json.dumps(pod("root", securityContext={"runAsUser": 0}))
    apply = ("apply", "-n", pods.namespace, "-f", "-")
    deadline = time.monotonic() + 60
    # What admits pods hears of the label a moment later.
    while "violates PodSecurity" in (said := pods.cluster.kubectl(*apply, given=root, check=False).stderr):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    found = pods.until("root", lambda found: "waiting" in state(found))
    found = pods.until("root", lambda found: state(found)["waiting"]["reason"] == "CreateContainerConfigError")
    assert "non-root" in state(found)["waiting"]["message"]


def test_does_not_see_the_machines_files_in_tmp(pods: Pods) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:
        # Only a checkout in /tmp is there: it is the image, so to speak.
        assert Path(file.name).name not in pods.says("ls -A /tmp").split()


def test_has_the_pods_name_as_host_name(pods: Pods) -> None:
    pods.ready("named", container("sh", "-c", "hostname; sleep 1000"))
    pods.until("named", lambda _: pods.log("named") != "")
    assert pods.log("named") == "named\n"


def test_has_an_address_of_its_own_on_which_all_ports_are_free(pods: Pods) -> None:
    serving = container(
        *("python", "-m", "http.server", "8080", "--bind", "0.0.0.0"),
        readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    )
    addresses = {pods.ready(name, serving)["status"]["podIP"] for name in ("first", "second")}
    assert len(addresses) == 2


def test_starts_python_of_the_checkout_as_nobody(pods: Pods) -> None:
    said = pods.says("python -c 'import sys, tandem_api; print(sys.prefix)'")
    assert said.strip() == sys.prefix


def test_starts_in_its_working_folder(pods: Pods) -> None:
    assert pods.says("pwd", workingDir="/srv/data").strip() == "/srv/data"


def test_mounts_vanish_with_the_container(pods: Pods) -> None:
    pods.says("true", volumes=[{"name": "v", "emptyDir": {}}], volumeMounts=[{"name": "v", "mountPath": "/made/here"}])
    assert not Path("/made").exists()
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "/made/here" in line]
