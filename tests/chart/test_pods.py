"""What holds for every pod of the chart."""

import pytest

from tests.chart.rendering import Chart, Objects
from tests.chart.restricted import violations
from tests.chart.values import EVERYTHING


@pytest.fixture(scope="module")
def everything(chart: Chart) -> Objects:
    return chart.render(EVERYTHING)


def test_every_pod_is_admitted_to_a_restricted_namespace(everything: Objects) -> None:
    assert len(everything.pods) == 6
    broken = {name: found for name, pod in everything.pods.items() if (found := list(violations(pod["spec"])))}
    assert broken == {}


def test_a_pod_that_restricted_namespaces_refuse_is_told() -> None:
    assert list(violations({"containers": [{"name": "c"}], "volumes": [{"name": "v", "hostPath": {}}]})) == [
        "volume v is of hostPath",
        "c may escalate",
        "c may run as root",
        "c has no seccomp profile",
        "c keeps capabilities",
    ]


def test_no_pod_can_write_to_its_root_and_each_has_a_folder_for_temporary_files(everything: Objects) -> None:
    for name, pod in everything.pods.items():
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], name


def test_every_mount_has_its_volume_and_every_volume_its_mount(everything: Objects) -> None:
    for name, pod in everything.pods.items():
        (container,) = pod["spec"]["containers"]
        mounted = sorted(mount["name"] for mount in container["volumeMounts"])
        assert mounted == sorted(volume["name"] for volume in pod["spec"]["volumes"]), name


def test_every_mounted_secret_and_config_is_the_releases_or_named_in_values(everything: Objects) -> None:
    for name, pod in everything.pods.items():
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert f"ConfigMap/{volume['configMap']['name']}" in everything.names, name
            secret = volume.get("secret", {}).get("secretName", "tandem-tls")
            assert secret == "tandem-tls" or f"Secret/{secret}" in everything.names, name


def test_every_pod_says_what_it_needs_and_pulls_with_the_given_secrets(everything: Objects) -> None:
    for name, pod in everything.pods.items():
        (container,) = pod["spec"]["containers"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name
        assert pod["spec"]["imagePullSecrets"] == [{"name": "acme"}], name


def test_every_pod_has_a_service_account_of_its_own(everything: Objects) -> None:
    accounts = [pod["spec"]["serviceAccountName"] for pod in everything.pods.values()]
    assert len(set(accounts)) == len(accounts)
    assert {f"ServiceAccount/{account}" for account in accounts} <= everything.names


def test_ports_of_probes_are_ports_of_the_container(everything: Objects) -> None:
    for name, pod in everything.pods.items():
        (container,) = pod["spec"]["containers"]
        named = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for kind in ("httpGet", "tcpSocket"):
                if port := container.get(probe, {}).get(kind, {}).get("port"):
                    assert port in named, (name, probe)
