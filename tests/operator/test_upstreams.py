"""Workers in front of the user's own servers: no model, no prefill, and each server's key by the environment."""

from typing import Any

import pytest
from tandem_api.inference_service import InferenceService
from tandem_operator.planning import plan_services
from tandem_operator.planning.installation import Installation, Peer, Policies
from tandem_operator.planning.policies import policies
from tandem_operator.planning.resolving import Settings, resolve
from tandem_operator.planning.revisions import revision_of

ENDPOINTS: list[dict[str, Any]] = [
    {"label": "open", "url": "http://ollama.models:11434", "model": "m"},
    {"label": "keyed", "url": "https://llama.models", "model": "m", "apiKey": {"name": "keys", "key": "llama"}},
]


def service(**version: Any) -> InferenceService:
    upstream = {"type": "upstream", "upstream": {"endpoints": ENDPOINTS}}
    return InferenceService.model_validate(
        {
            "apiVersion": "tandem.dev/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": "house", "namespace": "default"},
            "spec": {
                "versions": [{"name": "v1", "engine": upstream, **version}],
                "prefill": {"replicas": 1},
                "decode": {"replicas": 1},
            },
        }
    )


@pytest.fixture
def pod() -> dict[str, Any]:
    (plan,) = plan_services([service()])
    (role,) = plan.revisions[0].roles
    assert role.role == "decode"
    spec: dict[str, Any] = role.pod_template["spec"]
    return spec


def test_workers_fetch_no_model_and_run_without_torch(pod: dict[str, Any]):
    (worker,) = pod["containers"]
    assert "initContainers" not in pod
    assert "--model-dir" not in worker["args"]
    assert worker["image"] == Settings().virtual_image


def test_a_servers_key_comes_from_its_secret_and_from_nowhere_else(pod: dict[str, Any]):
    env = {variable["name"]: variable for variable in pod["containers"][0]["env"]}
    reference = {"secretKeyRef": {"name": "keys", "key": "llama"}}
    assert env["TANDEM_UPSTREAM_KEY_1"] == {"name": "TANDEM_UPSTREAM_KEY_1", "valueFrom": reference}
    assert "TANDEM_UPSTREAM_KEY_0" not in env


def test_workers_may_reach_the_ports_of_their_servers():
    made = service()
    version = resolve(made, made.spec.versions[0])
    allowed = [
        policy
        for policy in policies(made, [version], Installation(policies=Policies(Peer())))
        if "upstream" in policy["metadata"]["name"]
    ]
    (rule,) = allowed[0]["spec"]["egress"]
    assert [port["port"] for port in rule["ports"]] == [443, 11434]


def test_another_server_is_another_revision():
    made = service()
    version = made.spec.versions[0]
    assert version.engine.upstream is not None
    other = version.engine.upstream.endpoints[0].model_copy(update={"url": "http://elsewhere"})
    upstream = version.engine.upstream.model_copy(update={"endpoints": (other,)})
    changed = version.model_copy(update={"engine": version.engine.model_copy(update={"upstream": upstream})})
    assert revision_of(resolve(made, version)) != revision_of(resolve(made, changed))
