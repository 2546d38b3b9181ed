"""What the API server, or a former CRD, does not let be: said in a condition, and not tried again and again."""

import json
import time

from tandem_api.crd import crd

from tests.operator_live.platform import Platform, service, until


def test_of_two_services_with_one_model_name_the_older_keeps_it(platform: Platform) -> None:
    platform.apply(service("older", model="m"))
    time.sleep(1.1)  # ages count in seconds
    platform.apply(service("aaa", model="m"))
    with platform.operator() as operator:
        condition = until(lambda: platform.condition("aaa", "Ready"))
        until(lambda: platform.condition("older", "Ready"))
        assert (condition["status"], condition["reason"]) == ("False", "ModelNameTaken")
        assert platform.condition("older", "Ready")["reason"] != "ModelNameTaken"
        operator.settled()
        platform.delete("tisvc", "older")
        until(lambda: platform.condition("aaa", "Ready").get("reason") != "ModelNameTaken")


def test_a_refused_write_is_said_and_not_repeated_hot(platform: Platform) -> None:
    # An admission policy of the cluster's refuses PodDisruptionBudgets in this namespace.
    name = f"no-budgets-{platform.namespace}"
    platform.cluster.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["policy"],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE"],
                            "resources": ["poddisruptionbudgets"],
                        }
                    ]
                },
                "validations": [{"expression": "false", "message": "no budgets here", "reason": "Forbidden"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": platform.namespace}}
                },
            },
        },
    )
    platform.stack.callback(
        platform.cluster.kubectl, "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name
    )
    budget = ("create", "poddisruptionbudget", "probe", "--selector=a=b", "--min-available=1", "--dry-run=server")
    until(lambda: "no budgets here" in platform.cluster.kubectl(*budget, "-n", platform.namespace, check=False).stderr)
    platform.apply(service())
    with platform.operator() as operator:
        condition = until(
            lambda: found if (found := platform.condition("one", "Degraded")).get("status") == "True" else {}
        )
        assert "no budgets here" in condition["message"]
        assert "PodDisruptionBudget" in condition["message"]
        operator.settled()
        # All else was made.
        assert {item["kind"] for item in platform.list("deployments,services,configmaps")} == {
            "Deployment",
            "Service",
            "ConfigMap",
        }


def test_a_resource_that_a_former_crd_let_in_is_called_invalid(platform: Platform) -> None:
    permissive = json.loads(json.dumps(crd()))
    for version in permissive["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["x-kubernetes-validations"]
    platform.stack.callback(platform.cluster.apply, crd())
    platform.cluster.apply(permissive)
    versions = [{"name": name, "engine": {"type": "virtual"}, "weight": 70} for name in ("v1", "v2")]

    def let_in() -> bool:
        given = json.dumps(service("odd", versions=versions))
        apply = ("apply", "-n", platform.namespace, "-f", "-")
        return platform.cluster.kubectl(*apply, given=given, check=False).returncode == 0

    until(let_in)
    platform.apply(service("fine"))
    with platform.operator() as operator:
        condition = until(lambda: platform.condition("odd", "Ready"))
        assert (condition["status"], condition["reason"]) == ("False", "Invalid")
        assert "must sum to 100" in condition["message"]
        until(lambda: platform.list("deployments", "tandem.dev/service=fine"))
        assert not platform.list("deployments", "tandem.dev/service=odd")
        operator.settled()


def test_a_write_decided_on_a_former_state_is_decided_again(platform: Platform) -> None:
    platform.apply(service())
    with platform.operator() as operator:
        operator.settled()
        # Many writers at once: each change of the spec meets statuses that are being written.
        for count in (2, 3, 4, 5, 6):
            platform.apply(service(decode={"replicas": count}))
        until(lambda: [d["spec"]["replicas"] for d in platform.list("deployments", "tandem.dev/role=decode")] == [6])

        def observed() -> bool:
            resource = platform.get("tisvc", "one")
            return bool(resource["status"]["observedGeneration"] == resource["metadata"]["generation"])

        until(observed)
        operator.settled()
        assert not [line for line in operator.log() if line["level"] == "error"]
