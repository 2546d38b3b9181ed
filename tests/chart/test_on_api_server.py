"""The chart on a real API server: what it renders is taken, and what it promises over upgrades holds."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tandem_api.crd import crd

from tests.chart.rendering import CHART, RELEASE, Chart, Objects
from tests.chart.values import EVERYTHING
from tests.cluster.cluster import Cluster

_OPTIONAL = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}
"""Kinds of others, which this API server does not know."""
_CRD = crd()["metadata"]["name"]


def helm(cluster: Cluster, *args: str, chart: Path | None = CHART, **values: Any) -> None:
    """A command of helm, the chart's path before its last words where there is one."""
    given = [str(chart)] if chart else []
    told = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    cluster.helm(args[0], RELEASE, *given, *args[1:], *told)


@pytest.fixture
def release(cluster: Cluster, namespace: str) -> Iterator[str]:
    """The namespace of an installation whose pods nobody runs. The CRD may be there of another test."""
    helm(cluster, "install", f"--namespace={namespace}", "--take-ownership", "--force-conflicts")
    yield namespace
    cluster.helm("uninstall", RELEASE, f"--namespace={namespace}", "--ignore-not-found")


def test_an_api_server_takes_every_object_as_it_is(chart: Chart, cluster: Cluster, namespace: str) -> None:
    rendered = chart.render(EVERYTHING, namespace=namespace)
    known = [item for item in rendered.items if item["kind"] not in _OPTIONAL]
    assert len(known) > 25
    document = "\n---\n".join(json.dumps(item) for item in known)
    answer = cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"),
        given=document,
        check=False,
    )
    assert (answer.stderr, answer.returncode) == ("", 0)  # a warning, as of a pod that is not restricted, is on stderr


def test_a_restricted_namespace_admits_the_pods(cluster: Cluster, chart: Chart, release: str) -> None:
    rendered = chart.render(namespace=release)
    for name in ("Deployment/tandem-operator", "Deployment/tandem-router"):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**rendered.pods[name]["metadata"], "name": "try", "namespace": release},
            "spec": rendered.pods[name]["spec"],
        }
        cluster.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(pod))


def _data(cluster: Cluster, namespace: str, secret: str) -> dict[str, str]:
    found: dict[str, str] = cluster.get("secret", secret, namespace=namespace)["data"]
    return found


def test_keys_and_certificates_outlive_an_upgrade(cluster: Cluster, release: str) -> None:
    adapter = {"metricsAdapter.enabled": True}
    helm(cluster, "upgrade", f"--namespace={release}", **adapter)
    before = [_data(cluster, release, name) for name in ("tandem-router-ids", "tandem-adapter-tls")]
    helm(cluster, "upgrade", f"--namespace={release}", "--set=router.replicas=3", **adapter)
    assert [_data(cluster, release, name) for name in ("tandem-router-ids", "tandem-adapter-tls")] == before
    service = cluster.get("apiservice", "v1beta1.external.metrics.k8s.io")
    assert service["spec"]["caBundle"] == before[1]["ca.crt"]


def test_an_upgrade_carries_changes_of_the_resource(cluster: Cluster, release: str, tmp_path: Path) -> None:
    former = tmp_path / "tandem"
    shutil.copytree(CHART, former)
    old = crd()
    del old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["experiment"]
    old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] = []
    (former / "files" / "crd.yaml").write_text(yaml.safe_dump(old))

    def fields() -> set[str]:
        schema = cluster.get("crd", _CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return set(schema["properties"]["spec"]["properties"])

    helm(cluster, "upgrade", f"--namespace={release}", "--force-conflicts", chart=former)
    assert "experiment" not in fields()
    helm(cluster, "upgrade", f"--namespace={release}")
    assert "experiment" in fields()


def test_uninstalling_keeps_the_resource_and_what_people_wrote(cluster: Cluster, release: str) -> None:
    cluster.wait(f"crd/{_CRD}", "Established")
    service = yaml.safe_load((CHART.parents[1] / "deploy" / "samples" / "virtual.yaml").read_text())
    cluster.apply(service, namespace=release)
    cluster.helm("uninstall", RELEASE, f"--namespace={release}")
    assert cluster.get("inferenceservice", service["metadata"]["name"], namespace=release)["spec"]
    ours = f"app.kubernetes.io/instance={RELEASE}"
    kinds = "all,configmaps,secrets,roles,rolebindings,networkpolicies"
    # What Deployments had is collected behind them.
    eventually(lambda: cluster.get(kinds, "-l", ours, namespace=release)["items"] == [])
    roles = cluster.get("clusterroles,clusterrolebindings", "-l", ours)
    assert [role for role in roles["items"] if release in role["metadata"]["name"]] == []


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def may(cluster: Cluster, account: str, namespace: str, *words: str, allowed: bool = True) -> None:
    """Whether a service account may, as the API server sees it soon after its roles have changed."""
    verb, *rest = words
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = "yes" if allowed else "no"
    eventually(lambda: cluster.kubectl("auth", "can-i", verb, *rest, who, check=False).stdout.strip() == answer)


def test_the_operator_may_do_what_it_does_and_no_more(cluster: Cluster, release: str) -> None:
    for allowed in (
        "patch deployments.apps",
        "create deployments.apps",
        "patch deployments.apps --subresource=scale",
        "patch inferenceservices.tandem.dev --subresource=status",
        "patch pods --subresource=status",
        "delete horizontalpodautoscalers.autoscaling",
    ):
        may(cluster, "tandem-operator", release, *allowed.split(), "--namespace=default")
    for refused in (
        "get secrets",
        "delete pods",
        "create pods",
        "create pods --subresource=exec",
        "patch inferenceservices.tandem.dev",
        "delete inferenceservices.tandem.dev",
        "patch customresourcedefinitions.apiextensions.k8s.io",
        "create clusterrolebindings.rbac.authorization.k8s.io",
        "create rolebindings.rbac.authorization.k8s.io",
    ):
        may(cluster, "tandem-operator", release, *refused.split(), "--namespace=default", allowed=False)


def test_a_router_may_look_and_nothing_else(cluster: Cluster, release: str) -> None:
    for watched in ("inferenceservices.tandem.dev", "endpointslices.discovery.k8s.io"):
        may(cluster, "tandem-router", release, "watch", watched, "--all-namespaces")
    for refused in ("get secrets", "list pods", "patch inferenceservices.tandem.dev", "get configmaps"):
        may(cluster, "tandem-router", release, *refused.split(), "--namespace=default", allowed=False)


def test_a_namespaced_installation_may_nothing_elsewhere(cluster: Cluster, release: str, chart: Chart) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-of-tests"}})
    try:
        helm(cluster, "upgrade", f"--namespace={release}", namespaces=["team-of-tests"])
        for account, words in (
            ("tandem-operator", "create deployments.apps"),
            ("tandem-router", "list endpointslices.discovery.k8s.io"),
        ):
            may(cluster, account, release, *words.split(), "--namespace=team-of-tests")
            may(cluster, account, release, *words.split(), "--namespace=default", allowed=False)
        may(cluster, "tandem-operator", release, "list", "pods", f"--namespace={release}")
    finally:
        cluster.kubectl("delete", "namespace", "team-of-tests", "--wait=false")


def test_a_namespaced_installation_asks_for_nothing_of_the_cluster(chart: Chart) -> None:
    rendered: Objects = chart.render({"namespaces": ["a"], "crds": {"install": False}})
    assert rendered.of("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "APIService") == []
