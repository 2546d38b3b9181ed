"""The model registry of a release."""

from typing import Any

import pytest

from tests.chart.rendering import Chart, Objects
from tests.chart.values import EVERYTHING

ALONE: dict[str, Any] = {"registry": {"enabled": True}}
NAME = "tandem-registry"


def told(rendered: Objects) -> list[str]:
    args: list[str] = rendered.container(NAME)["args"]
    return args


def volumes(rendered: Objects) -> dict[str, Any]:
    spec = rendered.one("Deployment", NAME)["spec"]["template"]["spec"]
    return {volume["name"]: volume for volume in spec["volumes"]}


def test_it_is_there_where_it_is_wanted_alone(chart: Chart, defaults: Objects) -> None:
    assert not [name for name in defaults.names if "registry" in name]
    assert "registry" not in defaults.settings
    added = chart.render(ALONE).names - defaults.names
    kinds = ("Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service", "ServiceAccount")
    assert added == {f"{kind}/{NAME}" for kind in kinds}


def test_routers_relay_to_it_and_the_operator_and_workers_ask_it(chart: Chart) -> None:
    rendered = chart.render(ALONE)
    url = "http://tandem-registry.tandem-system.svc"
    assert f"--registry-url={url}" in rendered.container("tandem-router")["args"]
    assert rendered.settings["registry"] == {
        "url": url,
        "keyFile": "/etc/tandem-service-key/service-key",
        "workerKey": {"name": "tandem-service-key", "key": "service-key"},
    }
    (port,) = rendered.one("Service", NAME)["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, rendered.container(NAME)["ports"][0]["name"])


def test_one_of_another_installation_is_asked_in_its_place(chart: Chart) -> None:
    rendered = chart.render({"registry": {"url": "https://models.example", "workerKeySecret": "models"}})
    assert not [name for name in rendered.names if "registry" in name]
    assert "--registry-url=https://models.example" in rendered.container("tandem-router")["args"]
    assert rendered.settings["registry"]["workerKey"]["name"] == "models"
    assert "registry.url names another one" in chart.refusal({"registry": {"enabled": True, "url": "http://x"}})


def test_a_single_one_has_sqlite_and_files_on_a_claim_that_outlives_the_release(chart: Chart) -> None:
    rendered = chart.render(ALONE)
    assert {"--database=sqlite:////data/registry.db", "--storage=file:///data/artifacts", "--migrate"} <= set(
        told(rendered)
    )
    assert volumes(rendered)["data"]["persistentVolumeClaim"]["claimName"] == NAME
    assert rendered.one("PersistentVolumeClaim", NAME)["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert rendered.one("Deployment", NAME)["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.of("Job") == [job for job in rendered.of("Job") if job["metadata"]["name"] == "tandem-test"]


def test_the_volume_may_be_ones_own_or_go_with_the_pod(chart: Chart) -> None:
    own = chart.render({"registry": {"enabled": True, "persistence": {"existingClaim": "models"}}})
    assert volumes(own)["data"]["persistentVolumeClaim"]["claimName"] == "models"
    assert own.of("PersistentVolumeClaim") == []
    none = chart.render({"registry": {"enabled": True, "persistence": {"enabled": False}}})
    assert volumes(none)["data"] == {"name": "data", "emptyDir": {}}
    assert none.of("PersistentVolumeClaim") == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"database": {"urlSecret": "postgres"}},
        {"storage": {"url": "s3://bucket"}},
        {"persistence": {"accessMode": "ReadWriteMany"}},
    ],
    ids=str,
)
def test_more_than_one_needs_postgresql_and_shared_storage_and_says_so(chart: Chart, given: dict[str, Any]) -> None:
    said = chart.refusal({"registry": {"enabled": True, "replicas": 2, **given}})
    assert "registry.replicas is 2: more than one needs PostgreSQL" in said
    assert "registry.database.urlSecret" in said


def test_several_share_database_and_storage_and_are_replaced_one_by_one(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    container = rendered.container(NAME)
    assert "--storage=s3://models/tandem" in container["args"]
    assert not [arg for arg in container["args"] if arg.startswith(("--database", "--migrate"))]
    variable = next(one for one in container["env"] if one["name"] == "TANDEM_REGISTRY_DATABASE")
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "postgres", "key": "url"}}
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    assert "data" not in volumes(rendered)
    assert rendered.of("PersistentVolumeClaim") == []
    assert rendered.one("Deployment", NAME)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert rendered.one("PodDisruptionBudget", NAME)["spec"]["maxUnavailable"] == 1


def test_postgresql_is_migrated_before_anything_of_the_release_changes(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    job = rendered.one("Job", "tandem-migrations")
    account = rendered.one("ServiceAccount", "tandem-migrations")
    hooks = [one["metadata"]["annotations"] for one in (account, job)]
    assert {one["helm.sh/hook"] for one in hooks} == {"pre-install,pre-upgrade"}
    assert int(hooks[0]["helm.sh/hook-weight"]) < 0, "the Job runs as it"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1] == "migrate"
    assert container["image"] == rendered.container(NAME)["image"]


def test_it_asks_for_the_releases_keys_unless_nobody_is_asked(chart: Chart) -> None:
    keys = {"--static-key-file=/etc/tandem-api-key/api-key", "--service-key-file=/etc/tandem-service-key/service-key"}
    assert keys <= set(told(chart.render(ALONE)))
    open_to_all = chart.render(ALONE | {"auth": {"required": False}})
    assert "--allow-no-auth" in told(open_to_all)
    assert "api-key" not in volumes(open_to_all)
    assert "workerKey" not in open_to_all.settings["registry"]
