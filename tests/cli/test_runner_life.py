"""How containers start, are probed, fail, start again and end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from tandem_cli.runner import (
    Backoff,
    Node,
    PodState,
    PodTemplate,
    last_lines,
    loopback_addresses,
    run_pod,
    scratch_folder,
)

from tests.cli.conftest import Run

FOREVER = ["sleep", "1000"]
SERVER = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(sys.argv[2]) else 503)
        self.end_headers()
    def log_message(self, *args): pass
HTTPServer((sys.argv[1], 9000), Handler).serve_forever()
"""
"""Answers 200 while a file exists."""
HEALTH = """
import sys, time, grpc
from concurrent.futures import ThreadPoolExecutor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
servicer = health.HealthServicer()
servicer.set("readiness", health_pb2.HealthCheckResponse.SERVING)
servicer.set("liveness", health_pb2.HealthCheckResponse.NOT_SERVING)
server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(sys.argv[1] + ":9000")
server.start()
time.sleep(1000)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(1000)"
FAMILY = """
import subprocess, sys, time
# One that leaves the session, and one that is orphaned at once.
print(subprocess.Popen(["setsid", "sleep", "1000"]).pid)
orphan = subprocess.run(["sh", "-c", "sleep 1000 > /dev/null & echo $!"], stdout=subprocess.PIPE, text=True)
print(orphan.stdout.strip())
time.sleep(1000 if len(sys.argv) == 1 else 0)
"""


def one(**container: Any) -> dict[str, Any]:
    """A pod of one container."""
    return {"terminationGracePeriodSeconds": 60, "containers": [{"name": "main", "command": FOREVER, **container}]}


def restarted(state: PodState) -> bool:
    return state.containers[0].restarts > 0


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def lines(log: Path, count: int) -> list[str]:
    """The first lines of a log, once they are there."""
    async with asyncio.timeout(60):
        while len(found := last_lines(log, count)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_a_pod_without_probes_is_ready_when_it_runs(run: Run) -> None:
    async with run(one()) as pod:
        state = await pod.until(lambda state: state.ready)
    assert (state.phase, state.initialized) == ("Running", True)
    assert pod.state.containers[0].exit_code == 128 + signal.SIGTERM


async def test_init_containers_run_one_after_the_other_before_the_containers(run: Run, tmp_path: Path) -> None:
    note = tmp_path / "note"
    inits = [{"name": name, "command": ["sh", "-c", f"sleep 0.1; echo {name} >> {note}"]} for name in ("a", "b")]
    async with run({"initContainers": inits, **one(command=["sh", "-c", f"echo main >> {note}; sleep 1000"])}) as pod:
        await pod.until(lambda state: state.ready)
        await lines(note, 3)
    assert note.read_text().split() == ["a", "b", "main"]


async def test_an_init_container_that_fails_is_run_again_and_holds_the_pod_back(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    init = {"name": "init", "command": ["sh", "-c", f"echo trying; test -e {flag}"]}
    async with run({"initContainers": [init], **one()}) as pod:
        state = await pod.until(lambda state: state.init_containers[0].restarts >= 2)
        assert (state.phase, state.initialized, state.init_containers[0].exit_code) == ("Pending", False, 1)
        assert state.containers[0].reason == "PodInitializing"
        assert last_lines(pod.log("init"), 1) == ["trying"]
        flag.touch()
        await pod.until(lambda state: state.ready)


async def test_a_pod_that_may_not_restart_fails_with_its_init_container(run: Run) -> None:
    init = {"name": "init", "command": ["sh", "-c", "exit 7"]}
    async with run({"restartPolicy": "Never", "initContainers": [init], **one()}) as pod:
        state = await pod.until(lambda state: state.phase == "Failed")
    assert state.init_containers[0].exit_code == 7
    assert state.containers[0].pid is None


@pytest.mark.parametrize(
    ("policy", "command", "phase"),
    [("Never", "exit 0", "Succeeded"), ("Never", "exit 3", "Failed"), ("OnFailure", "exit 0", "Succeeded")],
)
async def test_a_pod_ends_as_its_restart_policy_says(run: Run, policy: str, command: str, phase: str) -> None:
    async with run({"restartPolicy": policy, **one(command=["sh", "-c", command])}) as pod:
        state = await pod.until(lambda state: state.phase in ("Succeeded", "Failed"))
    assert (state.phase, state.containers[0].restarts) == (phase, 0)


async def test_a_container_that_ends_is_started_again(run: Run) -> None:
    async with run(one(command=["sh", "-c", "echo run; exit 4"])) as pod:
        state = await pod.until(lambda state: state.containers[0].restarts >= 3)
        assert state.containers[0].exit_code == 4
        assert len(last_lines(pod.log("main"), 10)) >= 3


async def test_the_pause_between_starts_grows(run: Run, node: Node) -> None:
    waiting = []
    slow = replace(node, backoff=Backoff(first=0.05, limit=0.2, reset=60))
    loop = asyncio.get_running_loop()

    def note(pod: Any) -> None:
        state = pod.state.containers[0]
        if state.reason == "CrashLoopBackOff" or (state.phase == "running" and state.restarts):
            waiting.append((state.restarts, loop.time()))

    async with run(one(command=["false"]), node=slow, on_change=note) as pod:
        await pod.until(lambda state: state.containers[0].restarts >= 4)
    starts: dict[int, list[float]] = {}
    for restarts, moment in waiting:
        starts.setdefault(restarts, []).append(moment)
    pauses = [starts[restarts][1] - starts[restarts][0] for restarts in (1, 2, 3)]
    assert pauses[0] >= 0.05
    assert pauses[1] >= 0.1
    assert pauses[2] >= 0.2


async def test_a_program_that_is_not_there_is_said_in_the_log(run: Run) -> None:
    async with run(one(command=["no-such-program"])) as pod:
        state = await pod.until(restarted)
        assert state.containers[0].exit_code == 127
        assert last_lines(pod.log("main"), 1) == ["can't run no-such-program: No such file or directory"]


async def test_a_pod_is_ready_while_its_http_probe_succeeds(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    probe = {"httpGet": {"port": "web"}, "periodSeconds": 0.05, "failureThreshold": 2, "timeoutSeconds": 60}
    address = next(loopback_addresses(Random(), [9000]))
    command = ["python", "-c", SERVER, "$(IP)", str(flag)]
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    ports = [{"name": "web", "containerPort": 9000}]
    container = one(command=command, env=env, ports=ports, readinessProbe=probe)
    async with run(container, address=address) as pod:
        await pod.until(lambda state: state.containers[0].phase == "running")
        assert not pod.state.ready
        flag.touch()
        await pod.until(lambda state: state.ready)
        flag.unlink()
        state = await pod.until(lambda state: not state.ready)
        assert "status 503" in state.containers[0].message
        assert state.containers[0].restarts == 0


async def test_grpc_probes_ask_one_service_of_the_health_protocol(run: Run) -> None:
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    fast = {"periodSeconds": 0.2, "timeoutSeconds": 60}
    container = one(
        command=["python", "-c", HEALTH, "$(IP)"],
        env=env,
        startupProbe={"grpc": {"port": 9000, "service": "readiness"}, **fast, "failureThreshold": 200},
        livenessProbe={"grpc": {"port": 9000, "service": "liveness"}, **fast, "failureThreshold": 2},
    )
    async with run(container) as pod:
        await pod.until(lambda state: state.ready)
        state = await pod.until(lambda state: bool(state.containers[0].message))
        assert state.containers[0].message.startswith("liveness probe failed 2 times")
        assert "liveness: NOT_SERVING" in state.containers[0].message
        await pod.until(restarted)


async def test_exec_and_tcp_probes_are_asked_on_the_pods_own_ground(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    fast = {"periodSeconds": 0.1, "timeoutSeconds": 60}
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, {"name": "X", "value": "x"}]
    container = one(
        command=["python", "-c", SERVER, "$(IP)", str(flag)],
        env=env,
        startupProbe={"tcpSocket": {"port": 9000}, **fast, "failureThreshold": 200},
        readinessProbe={"exec": {"command": ["sh", "-c", f'test "$X" = x -a -e {flag}']}, **fast},
    )
    async with run(container) as pod:
        await pod.until(lambda state: state.containers[0].started)
        assert not pod.state.ready
        flag.touch()
        await pod.until(lambda state: state.ready)


async def test_a_container_that_never_starts_is_ended_and_started_again(run: Run) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 0.05, "failureThreshold": 3, "timeoutSeconds": 60}
    async with run(one(startupProbe=probe)) as pod:
        state = await pod.until(restarted)
    assert state.containers[0].message == "startup probe failed 3 times: false exited 1"


async def test_a_probe_without_an_answer_fails(run: Run) -> None:
    probe = {"exec": {"command": FOREVER}, "periodSeconds": 0.05, "failureThreshold": 1, "timeoutSeconds": 0.1}
    async with run(one(startupProbe=probe)) as pod:
        state = await pod.until(restarted)
    assert state.containers[0].message == "startup probe failed 1 times: no answer within 0.1 s"


async def test_sigterm_comes_first_and_the_grace_is_waited_for(run: Run) -> None:
    catch = "trap 'sleep 0.3; echo drained; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    async with run(
        one(command=["sh", "-c", catch]),
    ) as pod:
        await lines(pod.log("main"), 1)
        log = pod.log("main").open()
    with log:
        assert "drained" in log.read()
    assert pod.state.containers[0].exit_code == 0


async def test_a_container_that_has_only_just_begun_hears_sigterm(run: Run) -> None:
    for _ in range(20):
        async with run(one()) as pod:
            await pod.until(lambda state: state.ready)
        assert pod.state.containers[0].exit_code == 128 + signal.SIGTERM


async def test_what_ignores_sigterm_is_killed_after_the_grace(run: Run) -> None:
    async with run({**one(command=["python", "-c", STUBBORN]), "terminationGracePeriodSeconds": 0.2}) as pod:
        await lines(pod.log("main"), 1)
    assert pod.state.containers[0].exit_code == 128 + signal.SIGKILL


async def test_the_grace_can_be_cut_short(run: Run) -> None:
    async with asyncio.timeout(60):
        async with run({**one(command=["python", "-c", STUBBORN]), "terminationGracePeriodSeconds": 1000}) as pod:
            await lines(pod.log("main"), 1)
            asyncio.get_running_loop().call_later(0.1, pod.kill)
    assert pod.state.containers[0].exit_code == 128 + signal.SIGKILL


async def test_a_second_cancellation_cuts_the_grace_short(run: Run) -> None:
    up = asyncio.Event()

    async def hold() -> None:
        spec = {**one(command=["python", "-c", STUBBORN]), "terminationGracePeriodSeconds": 1000}
        async with run(spec) as pod:
            await lines(pod.log("main"), 1)
            up.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(60):
        holding = asyncio.create_task(hold())
        await up.wait()
        holding.cancel()
        await asyncio.sleep(0.1)
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding


async def test_containers_of_a_pod_end_side_by_side(run: Run, tmp_path: Path) -> None:
    """Each goes on until all have heard that they are to end."""
    told = [tmp_path / name for name in ("a", "b", "c")]
    heard = " && ".join(f"test -e {other}" for other in told)
    containers = [
        {
            "name": mine.name,
            "command": [
                "sh",
                "-c",
                f"trap 'touch {mine}; until {heard}; do sleep 0.05; done; exit 0' TERM; echo up; "
                "while :; do sleep 0.05; done",
            ],
        }
        for mine in told
    ]
    async with run({"containers": containers, "terminationGracePeriodSeconds": 60}) as pod:
        for name in ("a", "b", "c"):
            await lines(pod.log(name), 1)
    assert [container.exit_code for container in pod.state.containers] == [0, 0, 0]


async def test_everything_that_a_container_started_ends_with_it(run: Run) -> None:
    async with run(one(command=["python", "-c", FAMILY])) as pod:
        children = [int(line) for line in await lines(pod.log("main"), 2)]
        assert not any(gone(pid) for pid in children)
    assert all(gone(pid) for pid in children)


async def test_what_a_container_leaves_running_ends_with_its_main_process(run: Run) -> None:
    async with run({"restartPolicy": "Never", **one(command=["python", "-c", FAMILY, "end"])}) as pod:
        await pod.until(lambda state: state.phase == "Succeeded")
        assert all(gone(int(line)) for line in last_lines(pod.log("main"), 2))


async def test_signals_reach_the_main_process(run: Run) -> None:
    async with run(one()) as pod:
        await pod.until(lambda state: state.ready)
        pod.signal(signal.SIGKILL)
        state = await pod.until(restarted)
    assert state.containers[0].exit_code == 128 + signal.SIGKILL


async def test_pods_listen_on_the_same_port_at_addresses_of_their_own(run: Run, tmp_path: Path) -> None:
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    probe = {"httpGet": {"port": 9000}, "timeoutSeconds": 60, "periodSeconds": 0.2}
    spec = one(command=["python", "-c", SERVER, "$(IP)", str(tmp_path)], env=env, readinessProbe=probe)
    addresses = loopback_addresses(Random(), [9000])
    async with (
        scratch_folder() as other,
        run(spec, address=next(addresses)) as first,
        run(spec, address=next(addresses), scratch=other) as second,
    ):
        await first.until(lambda state: state.ready)
        await second.until(lambda state: state.ready)
    assert first.address != second.address


async def test_an_address_that_is_in_use_is_passed_over(run: Run, tmp_path: Path) -> None:
    first = next(loopback_addresses(Random(3), [9000]))
    server = await asyncio.start_server(lambda *_: None, first, 9000)
    async with server:
        assert next(loopback_addresses(Random(3), [9000])) != first


async def test_nothing_of_a_pod_stays(tmp_path: Path, node: Node) -> None:
    template = PodTemplate.model_validate({"spec": {**one(), "volumes": [{"name": "v", "emptyDir": {}}]}}).named("pod")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with scratch_folder(parent=tmp_path) as scratch:
        async with run_pod(template, address="127.0.0.1", node=node, scratch=scratch) as pod:
            await pod.until(lambda state: state.ready)
            assert list(scratch.folder.iterdir())
        assert not list(scratch.folder.iterdir())
    assert not list(tmp_path.iterdir())
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


async def test_an_exception_of_the_block_ends_the_pod_and_comes_out_as_it_was(run: Run) -> None:
    pods = []

    async def fail() -> None:
        async with run(one()) as pod:
            pods.append(pod)
            await pod.until(lambda state: state.ready)
            raise RuntimeError("of the block")

    with pytest.raises(RuntimeError, match="of the block"):
        await fail()
    assert pods[0].state.containers[0].phase == "terminated"


RUNNER = """
import asyncio, os, sys
from pathlib import Path
from tandem_cli.runner import Node, PodTemplate, last_lines, run_pod, scratch_folder
async def main():
    spec = {"containers": [{"name": "main", "command": sys.argv[2:]}]}
    async with scratch_folder(parent=Path(sys.argv[1])) as scratch:
        pod = PodTemplate.model_validate({"spec": spec}).named("pod")
        node = Node(environment={"PATH": os.environ["PATH"]})
        async with run_pod(pod, address="127.0.0.1", node=node, scratch=scratch) as pod:
            state = await pod.until(lambda state: state.ready)
            while len(last_lines(pod.log("main"), 2)) < 2:
                await asyncio.sleep(0.02)
            print(state.containers[0].pid, *last_lines(pod.log("main"), 2), flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""
"""Runs a container, and tells its keeper's process id and the first two words that it says."""


@contextmanager
def runner_of(folder: Path, *command: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A runner as a process of its own, and what it tells."""
    process = subprocess.Popen([sys.executable, "-c", RUNNER, str(folder), *command], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        try:
            yield process, [int(word) for word in process.stdout.readline().split()]
        finally:
            process.kill()


def empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def become_true(condition: Callable[[], bool]) -> None:
    """Waits until it is."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_nothing_stays_when_the_runner_is_killed(tmp_path: Path) -> None:
    with runner_of(tmp_path, sys.executable, "-u", "-c", FAMILY) as (runner, (keeper, *family)):
        watched = [keeper, psutil.Process(keeper).children()[0].pid, *family]
        runner.kill()
        become_true(lambda: all(gone(pid) for pid in watched))
    become_true(lambda: empty(tmp_path))


def test_a_container_does_not_outlive_its_keeper(tmp_path: Path) -> None:
    with runner_of(tmp_path, "sh", "-c", "echo 1; echo 2; exec sleep 1000") as (_, (keeper, *_)):
        (main,) = psutil.Process(keeper).children()
        os.kill(keeper, signal.SIGKILL)
        become_true(lambda: gone(main.pid))
    become_true(lambda: empty(tmp_path))


def test_a_killed_runners_folder_stays_until_its_last_process_has_ended(tmp_path: Path) -> None:
    with runner_of(tmp_path, "sh", "-c", "echo 1; echo 2; exec sleep 1000") as (runner, (keeper, *_)):
        os.kill(keeper, signal.SIGSTOP)  # it lets nothing end
        try:
            runner.kill()
            runner.wait(60)
            time.sleep(1)  # long enough for a janitor that waits for nobody
            assert not empty(tmp_path)
        finally:
            os.kill(keeper, signal.SIGCONT)
    become_true(lambda: empty(tmp_path))
