"""What the platform makes of a plan before anything runs."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.inference_service import InferenceService
from tandem_api.manifest import load
from tandem_api.topology import Topology
from tandem_cli.platform import PlatformError, parse_gpus
from tandem_cli.platform.gpus import deal
from tandem_cli.platform.ports import router_port
from tandem_cli.platform.routing import url_of, write_topology
from tandem_cli.platform.workers import Worker, make_workers
from tandem_cli.runner.state import ContainerState
from tandem_cli.watching import tell_troubles
from tandem_operator.planning import plan_services, rehearse

MANIFEST = """
apiVersion: tandem.dev/v1alpha1
kind: InferenceService
metadata: {name: llama}
spec:
  model: llama-3.1-8b
  versions: [{name: v1, source: hf://meta-llama/Llama-3.1-8B-Instruct}]
  prefill: {replicas: 2, resources: {limits: {nvidia.com/gpu: 1}}}
  decode: {replicas: 1, parallelism: {tensor: 2}, resources: {limits: {nvidia.com/gpu: 2}}}
"""


def services(text: str = MANIFEST) -> list[InferenceService]:
    return load(text)


def devices(worker: Worker) -> str | None:
    return {one.name: one.value for one in worker.template.spec.containers[0].env}.get("CUDA_VISIBLE_DEVICES")


def test_every_replica_is_a_worker_of_its_own() -> None:
    workers = make_workers(plan_services(rehearse(service) for service in services()), gpus=None)
    assert [worker.name for worker in workers] == ["llama-v1-prefill-0", "llama-v1-prefill-1", "llama-v1-decode-0"]
    assert {worker.role for worker in workers[:2]} == {"prefill"}


def test_gpus_are_dealt_by_the_limits_in_order() -> None:
    workers = make_workers(plan_services(services()), gpus=("0", "1", "3", "GPU-4"))
    assert [devices(worker) for worker in workers] == ["0", "1", "3,GPU-4"]


def test_too_few_gpus_are_said_with_who_asks_for_how_many() -> None:
    with pytest.raises(PlatformError) as raised:
        make_workers(plan_services(services()), gpus=("0", "1"))
    assert str(raised.value) == (
        "the workers ask for 4 GPUs (llama-v1-prefill-0: 1, llama-v1-prefill-1: 1, llama-v1-decode-0: 2), "
        "and --gpus names 2"
    )
    assert "--engine virtual" in raised.value.hint


def test_a_manifest_that_asks_for_gpus_wants_them_named() -> None:
    with pytest.raises(PlatformError, match="--gpus names none"):
        make_workers(plan_services(services()), gpus=None)


def test_named_gpus_go_to_ranks_where_a_manifest_has_no_limits() -> None:
    plain = MANIFEST.replace("resources: {limits: {nvidia.com/gpu: 1}}", "").replace(
        ", resources: {limits: {nvidia.com/gpu: 2}}", ""
    )
    workers = make_workers(plan_services(services(plain)), gpus=("0", "1", "2", "3"))
    assert [devices(worker) for worker in workers] == ["0", "1", "2,3"]


def test_a_rehearsal_needs_no_gpus() -> None:
    workers = make_workers(plan_services(rehearse(service) for service in services()), gpus=None)
    assert [devices(worker) for worker in workers] == [None, None, None]


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 20))
def test_a_gpu_goes_to_one_worker_at_most(needs: list[int], count: int) -> None:
    gpus = [str(index) for index in range(count)]
    wanted = {f"w{index}": need for index, need in enumerate(needs)}
    if sum(needs) > count:
        with pytest.raises(PlatformError):
            deal(gpus, wanted)
        return
    hands = deal(gpus, wanted)
    assert {name: len(hand) for name, hand in hands.items()} == wanted
    dealt = [gpu for hand in hands.values() for gpu in hand]
    assert len(set(dealt)) == len(dealt)
    assert set(dealt) <= set(gpus)


@pytest.mark.parametrize(("text", "says"), [("0,,1", "'' is no GPU"), ("-1", "'-1' is no GPU"), ("1,2,1", "twice")])
def test_wrong_gpus_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_gpus(text)


def test_claims_exist_only_in_a_cluster() -> None:
    claim = MANIFEST.replace("hf://meta-llama/Llama-3.1-8B-Instruct", "pvc://weights/llama")
    with pytest.raises(PlatformError, match=r"llama-v1-prefill-0 can't run on this machine: volume .* persistent"):
        make_workers(plan_services(services(claim)), gpus=("0", "1", "2", "3"))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_the_routers_url_leads_to_where_it_listens(host: str, url: str) -> None:
    assert url_of(host, 80) == url


def test_the_routers_port_is_kept_for_it() -> None:
    with router_port("127.0.0.1", 0) as port:
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)):  # as a router listens: with SO_REUSEADDR
            pass


async def test_a_restart_before_the_first_look_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    container = ContainerState("worker", restarts=1, exit_code=137)
    pod = SimpleNamespace(name="decode-0", state=SimpleNamespace(containers=(container,)))
    telling = asyncio.create_task(tell_troubles(SimpleNamespace(pods={"decode-0": pod})))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    telling.cancel()
    assert capsys.readouterr().err == "decode-0: exited with status 137, starting it again (1)\n"


def test_services_of_other_namespaces_keep_names_of_their_own() -> None:
    other = MANIFEST.replace("{name: llama}", "{name: llama, namespace: lab}").replace("llama-3.1-8b", "other")
    both = services(MANIFEST + "---" + other)
    workers = make_workers(plan_services(rehearse(service) for service in both), gpus=None)
    names = [worker.name for worker in workers]
    assert len(set(names)) == len(names) == 6
    assert "lab-llama-v1-decode-0" in names


def test_the_topology_has_reachable_workers_of_every_version(tmp_path: Path) -> None:
    plans = plan_services(rehearse(service) for service in services())
    workers = make_workers(plans, gpus=None)
    file = tmp_path / "topology.json"
    file.write_text("what stood here before")
    write_topology(file, plans, [(workers[0], "127.1.2.3"), (workers[2], "127.1.2.4")], created=7)
    topology = Topology.model_validate_json(file.read_text())
    (service,) = topology.services
    assert (service.model, service.created) == ("llama-3.1-8b", 7)
    (revision,) = service.versions[0].revisions
    assert revision.disaggregated
    found: dict[str, Any] = {worker.name: (worker.role, worker.address) for worker in revision.workers}
    assert found == {
        "llama-v1-prefill-0": ("prefill", "127.1.2.3:9000"),
        "llama-v1-decode-0": ("decode", "127.1.2.4:9000"),
    }
    assert list(tmp_path.iterdir()) == [file]
