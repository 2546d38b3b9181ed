"""What `helm install` brings where nobody sets anything, and what holds whatever is set."""

from typing import Any

import pytest

from tests.chart.rendering import NAMESPACE, Chart, Objects
from tests.chart.values import EVERYTHING

_CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "APIService"}


def test_a_bare_install_brings_operator_routers_and_no_options(defaults: Objects) -> None:
    kinds = sorted(
        item["kind"] for item in defaults.items if "helm.sh/hook" not in item["metadata"].get("annotations", {})
    )
    assert kinds == sorted(
        [
            *("CustomResourceDefinition", "ConfigMap", *["Secret"] * 3, "Service", "PodDisruptionBudget"),
            *(["Deployment", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "NetworkPolicy"] * 2),
            *("Role", "RoleBinding"),
        ]
    )


@pytest.mark.parametrize(
    "values", [{}, EVERYTHING, {"namespaces": ["a", "b"]}], ids=["bare", "everything", "namespaced"]
)
def test_the_chart_passes_a_strict_lint(chart: Chart, values: dict[str, Any]) -> None:
    assert "0 chart(s) failed" in chart.lint(values)


def test_every_object_says_whose_it_is(chart: Chart) -> None:
    for item in chart.render(EVERYTHING).items:
        labels = item["metadata"]["labels"]
        where = f"{item['kind']}/{item['metadata']['name']}"
        assert labels["app.kubernetes.io/instance"] == "tandem", where
        assert labels["app.kubernetes.io/managed-by"] == "Helm", where
        assert labels["team"] == "serving", where
        assert ("namespace" in item["metadata"]) == (item["kind"] not in _CLUSTER_WIDE), where


def test_names_begin_with_the_release(chart: Chart) -> None:
    for release, prefix in (("tandem", "tandem-"), ("my-tandem", "my-tandem-"), ("llm", "llm-tandem-")):
        assert f"Deployment/{prefix}router" in chart.render(release=release).names


def test_a_longest_release_name_gives_valid_names(chart: Chart) -> None:
    for name in chart.render(EVERYTHING | {"fullnameOverride": ""}, release="r" * 53).names:
        kind, _, name = name.partition("/")
        assert len(name) <= (63 if kind in ("Service", "Deployment", "Job") else 253), name


def test_two_releases_share_no_cluster_wide_name_but_the_resource_and_the_metrics_api(chart: Chart) -> None:
    first = chart.render(namespace="one")
    second = chart.render(namespace="two")
    shared = {n for n in first.names & second.names if n.partition("/")[0] in _CLUSTER_WIDE}
    assert shared == {"CustomResourceDefinition/inferenceservices.tandem.dev"}


def test_a_service_selects_the_pods_of_its_deployment_alone(chart: Chart) -> None:
    rendered = chart.render(EVERYTHING)
    for service in rendered.of("Service"):
        wanted = service["spec"]["selector"].items()
        taken = [name for name, pod in rendered.pods.items() if wanted <= pod["metadata"]["labels"].items()]
        assert taken == [f"Deployment/{service['metadata']['name']}"]


def test_a_deployments_selector_has_no_label_that_an_upgrade_changes(defaults: Objects) -> None:
    for deployment in defaults.of("Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert set(selector) == {f"app.kubernetes.io/{part}" for part in ("name", "instance", "component")}
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_a_changed_chart_version_alone_restarts_nothing(defaults: Objects) -> None:
    for pod in defaults.pods.values():
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & pod["metadata"]["labels"].keys()


def test_all_is_in_the_releases_namespace(defaults: Objects) -> None:
    assert {item["metadata"].get("namespace", NAMESPACE) for item in defaults.items} == {NAMESPACE}
