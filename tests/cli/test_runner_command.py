"""What a container's program is told: arguments, variables, files, paths."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_cli.runner import Command, FixedObjects, Mount, Node, PodTemplate, map_paths

from tests.cli.conftest import Run

PRINT = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"


async def told(run: Run, container: dict[str, Any], spec: dict[str, Any] | None = None, **given: Any) -> Any:
    """argv and environment as a container sees them."""
    import json

    shown = {"name": "main", "command": ["python", "-c", PRINT], **container}
    async with run({"restartPolicy": "Never", "containers": [shown], **(spec or {})}, **given) as pod:
        state = await pod.until(
            lambda state: state.phase in ("Succeeded", "Failed") or bool(state.problem) or failed(state)
        )
        assert state.phase == "Succeeded", (state, pod.log("main").read_text() if pod.log("main").exists() else "")
        return json.loads(pod.log("main").read_text())


def failed(state: Any) -> bool:
    return any(container.reason == "CreateContainerConfigError" for container in state.containers)


async def test_a_container_is_told_its_pods_name_namespace_and_address(run: Run) -> None:
    paths = {"NAME": "metadata.name", "SPACE": "metadata.namespace", "IP": "status.podIP"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]
    _, found = await told(run, {"env": env}, address="127.77.0.9")
    assert {name: found[name] for name in paths} == {"NAME": "pod", "SPACE": "space", "IP": "127.77.0.9"}


async def test_labels_can_be_variables(run: Run) -> None:
    env = [{"name": "ROLE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tandem.dev/role']"}}}]
    _, found = await told(run, {"env": env}, metadata={"labels": {"tandem.dev/role": "decode"}})
    assert found["ROLE"] == "decode"


async def test_variables_stand_for_themselves_in_arguments_and_in_later_variables(run: Run) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]
    argv, found = await told(run, {"env": env, "args": ["--x=$(B)", "$$(A)", "$(NONE)"]})
    assert argv == ["--x=12", "$(A)", "$(NONE)"]
    assert found["B"] == "12"


async def test_a_container_has_no_variables_but_its_own_and_its_images(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_SECRET_OF_THE_RUNNER", "x")
    _, found = await told(run, {})
    assert "TANDEM_SECRET_OF_THE_RUNNER" not in found
    assert "PATH" in found


async def test_secrets_and_config_maps_become_variables(run: Run, node: Node) -> None:
    objects = FixedObjects({"settings": {"LEVEL": "debug"}}, {"hub": {"HF_TOKEN": "t0ken", "other": "o"}})
    container = {
        "envFrom": [{"secretRef": {"name": "hub"}}, {"prefix": "P_", "configMapRef": {"name": "settings"}}],
        "env": [{"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "other"}}}],
    }
    _, found = await told(run, container, node=replace(node, objects=objects))
    assert (found["HF_TOKEN"], found["OTHER"], found["P_LEVEL"]) == ("t0ken", "o", "debug")


@pytest.mark.parametrize(
    ("container", "says"),
    [
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}, "Secret no is missing"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "is", "key": "k"}}}]}, "Secret is has no key k"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}, "fieldPath spec.x is not known"),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]}, "valueFrom knows"),
        ({"command": [], "image": "some/image:1"}, "no program is known for its image 'some/image:1'"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "mounts v, which is no volume"),
        ({"workingDir": "/nowhere/at/all"}, "workingDir /nowhere/at/all is no folder"),
    ],
)
async def test_what_a_container_lacks_is_said(run: Run, node: Node, container: dict[str, Any], says: str) -> None:
    spec = {"containers": [{"name": "main", "command": ["true"], **container}]}
    async with run(spec, node=replace(node, objects=FixedObjects(secrets={"is": {}}))) as pod:
        state = await pod.until(failed)
    assert says in state.containers[0].message


async def test_optional_objects_may_be_missing(run: Run) -> None:
    optional = {"name": "no", "key": "k", "optional": True}
    container = {
        "envFrom": [{"secretRef": {"name": "no", "optional": True}}],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": optional}}],
    }
    _, found = await told(run, container)
    assert "A" not in found


async def test_an_image_stands_for_its_entrypoint(run: Run, node: Node) -> None:
    images = {"acme/worker:1": ["python", "-c", PRINT]}
    container = {"image": "acme/worker:1", "command": [], "args": ["--x"]}
    argv, _ = await told(run, container, node=replace(node, images=images))
    assert argv == ["--x"]


async def test_config_maps_become_files_where_the_container_expects_them(run: Run, node: Node) -> None:
    objects = FixedObjects({"config": {"config.json": '{"a": 1}', "left out": ""}})
    spec = {
        "volumes": [
            {"name": "v", "configMap": {"name": "config", "items": [{"key": "config.json", "path": "in/c.json"}]}}
        ]
    }
    container = {
        "volumeMounts": [{"name": "v", "mountPath": "/etc/tandem"}],
        "command": ["python", "-c", f"import sys, json; sys.argv.append(open(sys.argv[1]).read()); {PRINT}"],
        "args": ["/etc/tandem/in/c.json"],
    }
    argv, _ = await told(run, container, spec, node=replace(node, objects=objects))
    assert argv[1] == '{"a": 1}'
    assert not Path(argv[0]).exists()


async def test_a_pod_waits_for_a_config_map_that_is_not_there_yet(run: Run, node: Node) -> None:
    data: dict[str, dict[str, str]] = {}
    spec = {
        "volumes": [{"name": "v", "configMap": {"name": "later"}}],
        "containers": [{"name": "main", "command": ["sleep", "100"]}],
    }
    async with run(spec, node=replace(node, objects=FixedObjects(data))) as pod:
        state = await pod.until(lambda state: bool(state.problem))
        assert state.problem == "volume v: ConfigMap later is missing"
        data["later"] = {}
        state = await pod.until(lambda state: state.ready)
        assert not state.problem


async def test_containers_of_a_pod_share_its_empty_folders(run: Run) -> None:
    write = {"name": "init", "command": ["python", "-c", "import sys; open(sys.argv[1], 'w').write('hi')", "/data/x"]}
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    spec = {"initContainers": [write | mounts], "volumes": [{"name": "data", "emptyDir": {}}]}
    read = {"command": ["python", "-c", f"import sys; sys.argv.append(open(sys.argv[1]).read()); {PRINT}"]}
    argv, _ = await told(run, {**read, **mounts, "args": ["/data/x"]}, spec)
    assert argv[1] == "hi"


async def test_temporary_files_go_with_the_pod(run: Run) -> None:
    spec = {"volumes": [{"name": "tmp", "emptyDir": {}}]}
    env = [{"name": "HOME", "value": "/tmp"}]
    _, found = await told(run, {"env": env, "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}, spec)
    assert found["TMPDIR"] == found["HOME"] != "/tmp"
    assert not Path(found["TMPDIR"]).exists()


def test_volumes_that_only_a_cluster_has_are_refused_by_name() -> None:
    spec = {
        "containers": [{"name": "c"}],
        "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "x"}}],
    }
    with pytest.raises(ValueError, match="volume weights: persistentVolumeClaim: known are configMap, emptyDir"):
        PodTemplate.model_validate({"spec": spec})


def test_a_probe_has_exactly_one_action() -> None:
    spec = {"containers": [{"name": "c", "livenessProbe": {"grpc": {"port": 1}, "tcpSocket": {"port": 1}}}]}
    with pytest.raises(ValueError, match="exactly one of grpc, httpGet, tcpSocket and exec"):
        PodTemplate.model_validate({"spec": spec})


def mapped(*argv: str, **env: str) -> tuple[tuple[str, ...], dict[str, str]]:
    mounts = (Mount(Path("/host/a"), "/data", False), Mount(Path("/host/b"), "/data/deep/", True))
    program = map_paths(Command("main", argv, env, {"LEFT": "/data"}, "", mounts))
    return program.argv, dict(program.env)


def test_paths_below_a_mount_become_the_machines() -> None:
    argv, env = mapped("/data", "/data/x", "--to=/data/deep/y", "/database", "see /data/x", "x=/data", A="/data/deep")
    assert argv == ("/host/a", "/host/a/x", "--to=/host/b/y", "/database", "see /data/x", "x=/data")
    assert env == {"LEFT": "/data", "A": "/host/b"}


@given(st.text(max_size=20))
def test_what_is_no_path_below_a_mount_stays_as_it_is(value: str) -> None:
    if "/data" not in value:
        assert mapped(value, A=value) == ((value,), {"LEFT": "/data", "A": value})
