"""The rights that the chart gives the operator are all that it needs, and no more than it uses."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.operator_live.platform import Platform, service, until

ROOT = Path(__file__).parents[2]
NEEDED = (("watch", "inferenceservices.tandem.dev"), ("patch", "services"), ("list", "pods"))
"""Some of each role."""


def _as_installed(platform: Platform, *values: str) -> Path:
    """A kubeconfig of the ServiceAccount that the chart makes for the operator in this namespace."""
    rendered = platform.cluster.helm(
        *("template", "tandem", str(ROOT / "charts/tandem"), "--namespace", platform.namespace),
        *("--show-only", "templates/operator/rbac.yaml", *values),
    )
    objects = [one for one in yaml.safe_load_all(rendered.stdout) if one]
    platform.apply(*objects)
    for one in objects:
        if one["kind"].startswith("Cluster"):
            platform.stack.callback(platform.cluster.kubectl, "delete", one["kind"].lower(), one["metadata"]["name"])
    (account,) = (one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount")
    token = platform.cluster.kubectl("create", "token", account, "-n", platform.namespace).stdout.strip()
    config: dict[str, Any] = yaml.safe_load(platform.cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    path = platform.folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    # What authorizes requests hears of roles and bindings a moment later.
    until(lambda: all(_may(platform, *right) for right in NEEDED))
    return path


def _may(platform: Platform, verb: str, what: str) -> bool:
    """Whether the ServiceAccount of `_as_installed` may do it in this namespace."""
    account = f"system:serviceaccount:{platform.namespace}:tandem-operator"
    asked = ("auth", "can-i", verb, what, f"--as={account}", "-n", platform.namespace)
    return platform.cluster.kubectl(*asked, check=False).stdout.strip() == "yes"


@pytest.mark.parametrize("wide", [False, True], ids=["namespaced", "cluster-wide"])
def test_the_charts_rights_are_enough(platform: Platform, wide: bool) -> None:
    if wide and platform.cluster.control_plane is None:
        pytest.skip("would act on all services of a cluster of the developer's")
    values = [] if wide else ["--set", f"namespaces={{{platform.namespace}}}"]
    env = {"KUBECONFIG": str(_as_installed(platform, *values))}
    model = platform.namespace  # of all namespaces, none has a service with that
    platform.apply(service(model=model))
    settings = {"namespaces": []} if wide else {}
    with platform.operator(env, **settings) as operator:
        until(lambda: len(platform.list("deployments")) == 2)
        operator.settled()
        platform.apply(service(model=model, decode={"replicas": 2}))
        until(lambda: {d["spec"]["replicas"] for d in platform.list("deployments")} == {1, 2})
        pods = until(lambda: platform.list("pods"))
        assert pods
        operator.settled()
        events = platform.get("events", "--field-selector", "involvedObject.kind=InferenceService")["items"]
        said = [line for line in operator.log() if "forbidden" in str(line).lower() or line["level"] == "error"]
    assert not said
    assert {event["source"]["component"] for event in events} == {"tandem-operator"}


def test_an_operator_without_rights_says_which_it_lacks(platform: Platform) -> None:
    env = {"KUBECONFIG": str(_as_installed(platform, "--set", f"namespaces={{{platform.namespace}}}"))}
    role = platform.get("role", "tandem-operator")
    role["rules"] = [rule for rule in role["rules"] if "services" not in rule["resources"]] + [
        {
            "apiGroups": [""],
            "resources": ["configmaps", "services", "serviceaccounts"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    platform.cluster.kubectl("replace", "-f", "-", "-n", platform.namespace, given=yaml.safe_dump(role))
    until(lambda: not _may(platform, "patch", "services"))
    platform.apply(service())
    with platform.operator(env):
        until(lambda: platform.condition("one", "Degraded").get("reason") == "Forbidden")
        message = platform.condition("one", "Degraded")["message"]
    assert "services" in message or "serviceaccounts" in message or "configmaps" in message
    assert "permission" in message
