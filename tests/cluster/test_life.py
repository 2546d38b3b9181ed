"""How pods on the node begin, are probed, fail, start again and end, and what their status says."""

import json
import subprocess
import time
from typing import Any

import psutil
import pytest

from tests.cluster.podding import Pods, condition, container, phase, pod, state

STUBBORN = "trap '' TERM; echo up; while true; do sleep 0.1; done"
HEALTH = """
import os, time, grpc
from concurrent.futures import ThreadPoolExecutor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
servicer = health.HealthServicer()
servicer.set("readiness", health_pb2.HealthCheckResponse.SERVING)
server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(os.environ["POD_IP"] + ":9001")
server.start()
time.sleep(1000)
"""
SERVE = ("python", "-m", "http.server", "8080", "--directory", "/srv")


@pytest.mark.parametrize(
    ("probe", "command"),
    [
        ({"grpc": {"port": 9001, "service": "readiness"}}, ("python", "-c", HEALTH)),
        ({"httpGet": {"port": "http", "path": "/"}}, SERVE),
        ({"tcpSocket": {"port": "http"}}, SERVE),
        ({"exec": {"command": ["test", "-e", "/dev/shm"]}}, ("sleep", "1000")),
    ],
    ids=["grpc", "http", "tcp", "exec"],
)
def test_a_probe_that_succeeds_makes_a_pod_ready(pods: Pods, probe: dict[str, Any], command: tuple[str, ...]) -> None:
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    probed = container(
        *command,
        readinessProbe={**probe, "periodSeconds": 1},
        ports=[{"name": "http", "containerPort": 8080}],
        env=[address],
    )
    pods.ready("probed", probed)


@pytest.mark.parametrize(
    "probe",
    [
        {"grpc": {"port": 9001}},
        {"httpGet": {"port": 8080}},
        {"tcpSocket": {"port": 8080}},
        {"exec": {"command": ["false"]}},
    ],
    ids=["grpc", "http", "tcp", "exec"],
)
def test_a_probe_that_fails_keeps_a_pod_unready(pods: Pods, probe: dict[str, Any]) -> None:
    unready = {**probe, "periodSeconds": 1, "failureThreshold": 1}
    # Once liveness has failed and the container has started again, readiness has been asked as well.
    pods.start(pod("probed", container(readinessProbe=unready, livenessProbe=unready)))
    found = pods.until("probed", lambda found: restarts(found) > 0)
    assert condition(found, "Ready") == "False"
    assert condition(found, "ContainersReady") == "False"


def test_a_pod_is_ready_only_with_its_gates(pods: Pods) -> None:
    pods.start(pod("gated", readinessGates=[{"conditionType": "tandem.dev/Routable"}]))
    found = pods.until("gated", lambda found: condition(found, "ContainersReady") == "True")
    assert condition(found, "Ready") == "False"
    gate = '{"status": {"conditions": [{"type": "tandem.dev/Routable", "status": "True"}]}}'
    pods.cluster.kubectl("patch", "pod", "gated", "-n", pods.namespace, "--subresource=status", "-p", gate)
    found = pods.until("gated", lambda found: condition(found, "Ready") == "True")
    assert condition(found, "tandem.dev/Routable") == "True"


def test_init_containers_run_before_the_others_one_after_the_other(pods: Pods) -> None:
    note = [{"name": "v", "mountPath": "/v"}]
    inits = [
        container("sh", "-c", f"echo {name} >> /v/order", name=name, volumeMounts=note) for name in ("first", "second")
    ]
    said = pods.says("cat /v/order", initContainers=inits, volumeMounts=note, volumes=[{"name": "v", "emptyDir": {}}])
    assert said.split() == ["first", "second"]


def test_an_init_container_that_fails_is_tried_again(pods: Pods) -> None:
    once = "test -e /v/tried || { touch /v/tried; exit 3; }"
    note = [{"name": "v", "mountPath": "/v"}]
    first = container("sh", "-c", once, name="first", volumeMounts=note)
    found = pods.ready("tries", initContainers=[first], volumes=[{"name": "v", "emptyDir": {}}])
    status = found["status"]["initContainerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3


def test_a_container_that_ends_starts_again_after_a_while(pods: Pods) -> None:
    pods.start(pod("crashes", container("sh", "-c", "echo run; exit 7")))
    found = pods.until("crashes", lambda found: restarts(found) >= 2 and "waiting" in state(found))
    assert state(found)["waiting"]["reason"] == "CrashLoopBackOff"
    assert found["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 7
    assert pods.log("crashes").split().count("run") >= 2


def test_a_container_whose_liveness_fails_starts_again(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/v/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    note = [{"name": "v", "mountPath": "/v"}]
    dies_once = "test -e /v/dead && exec sleep 1000; touch /v/alive; sleep 2; mv /v/alive /v/dead; sleep 1000"
    pods.start(
        pod(
            "restarts",
            container("sh", "-c", dies_once, livenessProbe=probe, volumeMounts=note),
            volumes=[{"name": "v", "emptyDir": {}}],
        )
    )
    pods.until("restarts", lambda found: restarts(found) > 0)


def test_a_pod_that_never_restarts_ends_by_its_exit_status(pods: Pods) -> None:
    for name, code in (("well", 0), ("badly", 5)):
        pods.start(pod(name, container("sh", "-c", f"exit {code}"), restartPolicy="Never"))
    assert phase(pods.until("well", ended)) == "Succeeded"
    found = pods.until("badly", ended)
    assert phase(found) == "Failed"
    assert state(found)["terminated"]["exitCode"] == 5


def test_a_job_completes(pods: Pods) -> None:
    template = {"spec": {**pod("", container("true"))["spec"], "restartPolicy": "Never"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": {"template": template}}
    pods.start(job)
    pods.cluster.wait("job/job", "Complete", pods.namespace)


@pytest.mark.parametrize("image", ["tandem-worker-virtual:typo", "nowhere.example/unknown:1"])
def test_an_image_that_is_not_there_is_said(pods: Pods, image: str) -> None:
    pods.start(pod("typo", container(image=image)))
    found = pods.until("typo", lambda found: "waiting" in state(found))
    found = pods.until("typo", lambda found: state(found)["waiting"]["reason"] == "ImagePullBackOff")
    assert image in state(found)["waiting"]["message"]
    assert phase(found) == "Pending"


def test_a_deleted_pod_gets_sigterm_and_its_grace(pods: Pods) -> None:
    polite = "trap 'sleep 1; echo bye; exit 0' TERM; echo up; while true; do sleep 0.1; done"
    pods.ready("ends", container("sh", "-c", polite), terminationGracePeriodSeconds=60)
    pods.until("ends", lambda _: pods.log("ends") == "up\n")
    pods.cluster.kubectl("delete", "pod", "ends", "-n", pods.namespace, "--timeout=90s")
    assert pods.log("ends") == "up\nbye\n"


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(pods: Pods) -> None:
    pods.ready("stays", container("sh", "-c", STUBBORN), terminationGracePeriodSeconds=600)
    pods.until("stays", lambda _: pods.log("stays") != "")
    begun = time.monotonic()
    pods.cluster.kubectl("delete", "pod", "stays", "-n", pods.namespace, "--grace-period=2", "--timeout=90s")
    assert time.monotonic() - begun >= 2


def test_a_pod_that_ends_is_ready_as_long_as_it_runs(pods: Pods) -> None:
    pods.ready("serves", container("sh", "-c", STUBBORN), terminationGracePeriodSeconds=600)
    pods.until("serves", lambda _: pods.log("serves") != "")
    pods.cluster.kubectl("delete", "pod", "serves", "-n", pods.namespace, "--wait=false")
    found = pods.until("serves", lambda found: "deletionTimestamp" in found["metadata"])
    assert condition(found, "Ready") == "True"
    pods.cluster.kubectl("delete", "pod", "serves", "-n", pods.namespace, "--force", "--grace-period=0")


def test_a_pod_deleted_by_force_leaves_no_process(pods: Pods) -> None:
    script = "trap '' TERM; setsid sleep 1000 & own=$!; sleep 1000 & echo $$ $own $!; wait"
    pods.ready("forced", container("sh", "-c", script))
    pods.until("forced", lambda _: pods.log("forced").endswith("\n"))
    processes = [psutil.Process(int(word)) for word in pods.log("forced").split()]
    # The shell says their numbers before they are what it turns them into.
    pods.until("forced", lambda _: [process.name() for process in processes] == ["sh", "sleep", "sleep"])
    pods.cluster.kubectl("delete", "pod", "forced", "-n", pods.namespace, "--force", "--grace-period=0")
    for process in processes:
        until_gone(process)


def test_kubectl_shows_logs(pods: Pods) -> None:
    pods.ready("talks", container("sh", "-c", "for i in 1 2 3; do echo line $i; done; sleep 1000"))
    pods.until("talks", lambda _: pods.log("talks").count("\n") == 3)
    logs = pods.cluster.kubectl("logs", "talks", "-n", pods.namespace, "--tail=2").stdout
    assert logs == "line 2\nline 3\n"


def test_kubectl_follows_logs_to_the_end_of_the_pod(pods: Pods) -> None:
    pods.ready(
        "talks",
        container("sh", "-c", "trap 'echo ends; exit 0' TERM; echo begins; while true; do sleep 0.1; done"),
        terminationGracePeriodSeconds=60,
    )
    pods.until("talks", lambda _: pods.log("talks") != "")
    cluster = pods.cluster
    argv = [cluster.clients.kubectl, "logs", "-f", "talks", "-n", pods.namespace]
    with cluster.entered():
        follower = subprocess.Popen(argv, env=cluster.env, stdout=subprocess.PIPE, text=True)
    with follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begins\n"
        cluster.kubectl("delete", "pod", "talks", "-n", pods.namespace, "--wait=false")
        assert follower.stdout.read() == "ends\n"


def test_gpus_are_counted(pods: Pods) -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "3"}}}
    pods.node.offer(**{"nvidia.com/gpu": "4"})
    pods.ready("fits", container(**limits))
    pods.start(pod("waits", container(**limits)))
    found = pods.until("waits", lambda found: condition(found, "PodScheduled") == "False")
    assert "Insufficient nvidia.com/gpu" in found["status"]["conditions"][0]["message"]
    pods.node.offer(**{"nvidia.com/gpu": "8"})
    pods.until("waits", lambda found: condition(found, "Ready") == "True")


def test_a_node_that_was_taken_for_lost_says_that_it_is_not(pods: Pods) -> None:
    lost = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    pods.cluster.kubectl("patch", "node", pods.node.name, "--subresource=status", "-p", lost)
    pods.cluster.wait(f"node/{pods.node.name}", "Ready", seconds=60)
    pods.ready("afterwards")


def restarts(found: dict[str, Any]) -> int:
    return max((one["restartCount"] for one in found["status"].get("containerStatuses", [])), default=0)


def ended(found: dict[str, Any]) -> bool:
    return phase(found) in ("Succeeded", "Failed")


def until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 60
    while process.is_running():  # never one that has its number afterwards
        assert time.monotonic() < deadline, process
        time.sleep(0.05)
