"""Variables and volumes of a container on the node."""

import base64
from pathlib import Path
from typing import Any

from tests.cluster.podding import Pods, container, pod, state


def config(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def mounted(path: str, **volume: Any) -> dict[str, Any]:
    return {
        "volumes": [{"name": "v", **volume}],
        "volumeMounts": [{"name": "v", "mountPath": path}],
    }


def test_variables_come_from_values_fields_config_maps_and_secrets(pods: Pods) -> None:
    pods.start(config("c", plain="from a config map", all_of_it="x"), secret("s", key="from a secret"))
    said = pods.says(
        'printf "%s\\n" "$VALUE" "$CONFIG" "$SECRET" "$P_all_of_it" "$NODE" "$ACCOUNT" "$SPACE"',
        env=[
            {"name": "VALUE", "value": "$(CONFIG) expanded"},
            {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "plain"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
        envFrom=[{"configMapRef": {"name": "c"}, "prefix": "P_"}],
    )
    assert said.splitlines() == [
        *("$(CONFIG) expanded", "from a config map", "from a secret", "x"),
        *(pods.node.name, "default", pods.namespace),
    ]


def test_its_address_is_the_one_that_it_listens_on(pods: Pods) -> None:
    field = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    script = "import os, socket; socket.create_server((os.environ['POD_IP'], 80 + 8000)); print('listens')"
    assert pods.says(f'python -c "{script}"', env=[field]) == "listens\n"


def test_a_pod_waits_for_a_missing_config_map_and_starts_with_it(pods: Pods) -> None:
    variable = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}
    pods.start(pod("waits", container(env=[variable])))
    waiting = pods.until("waits", lambda found: state(found).get("waiting", {}).get("message", "") != "")
    assert state(waiting)["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": "ConfigMap late is missing",
    }
    pods.start(config("late", x="1"))
    pods.until("waits", lambda found: "running" in state(found))


def test_a_config_map_stands_at_its_mount_path(pods: Pods) -> None:
    pods.start(config("c", **{"a.json": "{}", "b.json": "[]"}))
    items = [{"key": "b.json", "path": "deep/b.json"}]
    said = pods.says("cd /etc/tandem; find . -type f; cat deep/b.json",
                     **mounted("/etc/tandem", configMap={"name": "c", "items": items}))  # fmt: skip
    assert said == "./deep/b.json\n[]"


def test_a_file_of_a_config_map_is_mounted_by_sub_path(pods: Pods) -> None:
    pods.start(config("c", only="this"))
    said = pods.says(
        "cat /etc/only.txt",
        volumes=[{"name": "v", "configMap": {"name": "c"}}],
        volumeMounts=[{"name": "v", "mountPath": "/etc/only.txt", "subPath": "only"}],
    )
    assert said == "this"


def test_a_secret_is_readable_by_the_group_of_the_pod_alone(pods: Pods) -> None:
    pods.start(secret("s", key="hidden"))
    said = pods.says("cat /s/key; stat -c ' %a %g' /s/key", securityContext={"fsGroup": 4321},
                     **mounted("/s", secret={"secretName": "s", "defaultMode": 0o400}))  # fmt: skip
    assert said == "hidden 440 4321\n"


def test_a_read_only_mount_refuses_writes(pods: Pods) -> None:
    said = pods.says(
        "touch /v/x || echo refused",
        volumes=[{"name": "v", "emptyDir": {}}],
        volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True}],
    )
    assert said.endswith("refused\n")


def test_containers_share_an_empty_folder(pods: Pods) -> None:
    mount = [{"name": "v", "mountPath": "/shared"}]
    first = container("sh", "-c", "echo left here > /shared/note", name="first", volumeMounts=mount)
    said = pods.says("cat /shared/note", initContainers=[first], volumes=[{"name": "v", "emptyDir": {}}],
                     volumeMounts=mount)  # fmt: skip
    assert said == "left here\n"


def test_a_folder_in_memory_has_its_limit(pods: Pods) -> None:
    said = pods.says("stat -f -c %T /dev/shm; df --output=size -k /dev/shm | tail -1",
                     **mounted("/dev/shm", emptyDir={"medium": "Memory", "sizeLimit": "8Mi"}))  # fmt: skip
    assert said.split() == ["tmpfs", str(8 * 1024)]


def test_labels_stand_in_a_file(pods: Pods) -> None:
    item = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    pods.ready(
        "labelled",
        container("sh", "-c", "cat /info/labels; sleep 1000", volumeMounts=[{"name": "v", "mountPath": "/info"}]),
        metadata={"labels": {"a": "1", "b": "2"}},
        volumes=[{"name": "v", "downwardAPI": {"items": [item]}}],
    )
    pods.until("labelled", lambda _: pods.log("labelled") != "")
    assert pods.log("labelled") == 'a="1"\nb="2"'


def test_the_token_speaks_for_the_service_account_at_the_api_server(pods: Pods) -> None:
    script = """
import json, os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = "https://%s:%s/apis/authentication.k8s.io/v1/selfsubjectreviews" % (
    os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"])
request = urllib.request.Request(url, b'{"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}',
    {"authorization": "Bearer " + open(folder + "token").read(), "content-type": "application/json"})
answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "ca.crt"))
print(json.load(answer)["status"]["userInfo"]["username"], open(folder + "namespace").read())
"""
    pods.start(config("script", **{"ask.py": script}))
    pods.cluster.kubectl("create", "serviceaccount", "asks", "-n", pods.namespace)
    mount = [{"name": "v", "mountPath": "/script"}]
    pods.start(
        pod(
            "asks",
            container("python", "/script/ask.py", volumeMounts=mount),
            serviceAccountName="asks",
            restartPolicy="Never",
            volumes=[{"name": "v", "configMap": {"name": "script"}}],
        )
    )
    pods.until("asks", lambda found: found["status"]["phase"] in ("Succeeded", "Failed"))
    assert pods.log("asks").split() == [f"system:serviceaccount:{pods.namespace}:asks", pods.namespace]


def test_a_claim_is_the_folder_of_the_volume_that_it_is_bound_to(pods: Pods, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "model").write_text("weights")
    name = f"volume-of-{pods.namespace}"
    spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}}  # fmt: skip
    volume = {"accessModes": ["ReadOnlyMany"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(tmp_path)}}
    pods.start(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec},
    )
    try:
        claim = {"claimName": "models", "readOnly": True}
        assert pods.says("cat /source/model", **mounted("/source", persistentVolumeClaim=claim)) == "weights"
    finally:
        pods.cluster.kubectl("delete", "pv", name, "--wait=false")
