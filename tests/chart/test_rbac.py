"""Rights: as few as the work takes."""

from typing import Any

import pytest

from tests.chart.rendering import Chart, Objects

_WRITES = {"create", "update", "patch", "delete", "deletecollection"}


def rules(rendered: Objects, component: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """All rules of a component's roles; with a namespace, of its Roles there alone."""
    kinds = ("Role",) if namespace else ("Role", "ClusterRole")
    return [
        rule
        for role in rendered.of(*kinds)
        if role["metadata"]["labels"]["app.kubernetes.io/component"] == component
        and namespace in (None, role["metadata"].get("namespace"))
        for rule in role["rules"]
    ]


def written(found: list[dict[str, Any]]) -> set[str]:
    return {resource for rule in found if _WRITES & set(rule["verbs"]) for resource in rule["resources"]}


def test_no_rule_has_a_wildcard(chart: Chart) -> None:
    for values in ({}, {"namespaces": ["a"]}, {"metricsAdapter": {"enabled": True}}):
        for role in chart.render(values).of("Role", "ClusterRole"):
            for rule in role["rules"]:
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_nobody_reads_secrets_or_touches_roles(defaults: Objects) -> None:
    for component in ("operator", "router", "test"):
        named = {resource for rule in rules(defaults, component) for resource in rule["resources"]}
        assert not named & {"secrets", "roles", "rolebindings", "clusterroles", "pods/exec", "serviceaccounts/token"}


def test_the_operator_writes_its_children_and_what_it_tells(defaults: Objects) -> None:
    assert written(rules(defaults, "operator")) == {
        *("deployments", "deployments/scale", "configmaps", "services", "serviceaccounts", "poddisruptionbudgets"),
        *("networkpolicies", "horizontalpodautoscalers", "pods/status", "events", "inferenceservices/status"),
    }


def test_routers_write_nothing(defaults: Objects) -> None:
    assert written(rules(defaults, "router")) == set()


def test_secrets_that_values_name_may_be_read_by_name(chart: Chart) -> None:
    rendered = chart.render({"operator": {"sourceSecrets": ["hugging-face"]}})
    (rule,) = [rule for rule in rules(rendered, "operator") if "secrets" in rule["resources"]]
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hugging-face"], "verbs": ["get"]}


def test_namespaces_have_the_same_rights_by_roles_and_the_cluster_none(chart: Chart, defaults: Objects) -> None:
    rendered = chart.render({"namespaces": ["a", "b"]})
    assert rendered.of("ClusterRole", "ClusterRoleBinding") == []
    wide = [
        r for r in rules(defaults, "operator") if r["resources"] not in (["namespaces"], ["customresourcedefinitions"])
    ]
    for namespace in ("a", "b"):
        assert [rule for rule in wide if rule not in rules(rendered, "operator", namespace)] == []
        assert rules(rendered, "router", namespace) == rules(defaults, "router")


def test_every_role_is_bound_to_its_own_account(chart: Chart) -> None:
    for values in ({}, {"namespaces": ["a"]}, {"metricsAdapter": {"enabled": True}}):
        rendered = chart.render(values)
        roles = {
            (r["kind"], r["metadata"].get("namespace"), r["metadata"]["name"])
            for r in rendered.of("Role", "ClusterRole")
        }
        bound = set()
        for binding in rendered.of("RoleBinding", "ClusterRoleBinding"):
            (subject,) = binding["subjects"]
            assert subject["namespace"] == "tandem-system"
            assert f"ServiceAccount/{subject['name']}" in rendered.names
            if binding["roleRef"]["name"] != "extension-apiserver-authentication-reader":
                bound.add(
                    (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"])
                )
        assert bound == roles


def test_the_test_pod_touches_one_resource_by_name(defaults: Objects) -> None:
    assert rules(defaults, "test") == [
        {"apiGroups": ["tandem.dev"], "resources": ["inferenceservices"], "verbs": ["create"]},
        {
            "apiGroups": ["tandem.dev"],
            "resources": ["inferenceservices"],
            "resourceNames": ["tandem-test"],
            "verbs": ["get", "delete"],
        },
    ]


@pytest.mark.parametrize("namespaces", [[], ["a", "b"]], ids=str)
def test_the_test_pod_works_where_the_operator_looks(chart: Chart, namespaces: list[str]) -> None:
    rendered = chart.render({"namespaces": namespaces})
    (role,) = [r for r in rendered.of("Role") if r["metadata"]["name"] == "tandem-test"]
    assert role["metadata"]["namespace"] == (namespaces[0] if namespaces else "tandem-system")
    assert (
        f"--namespace={role['metadata']['namespace']}"
        in rendered.pods["Job/tandem-test"]["spec"]["containers"][0]["args"]
    )
