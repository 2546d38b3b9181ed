"""A production manifest runs without its GPUs."""

import json

from tandem_api.inference_service import InferenceService
from tandem_operator.planning import plan_service, rehearse

from tests.operator.making import service, version

PRODUCTION = {
    "resources": {"limits": {"nvidia.com/gpu": 2}},
    "parallelism": {"tensor": 2},
    "nodeSelector": {"gpu": "h200"},
    "tolerations": [{"operator": "Exists"}],
    "modelCache": {"persistentVolumeClaim": {"claimName": "cache"}},
    "env": [
        {"name": "PLAIN", "value": "x"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "licenses", "key": "a"}}},
    ],
    "replicas": 3,
}
PLACEMENT = {
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"),
    *("runtimeClassName", "schedulerName", "imagePullSecrets"),
}
"""What is said of the machines of a production cluster, and of its images."""


def test_it_keeps_the_shape_and_drops_what_only_production_has(samples: dict[str, InferenceService]) -> None:
    for asked in samples.values():
        real, rehearsed = plan_service(asked), plan_service(rehearse(asked))
        shape = [
            [(one.version, one.weight, [(role.role, role.replicas) for role in one.roles]) for one in plan.revisions]
            for plan in (real, rehearsed)
        ]
        assert shape[0] == shape[1]
        for role in (role for one in rehearsed.revisions for role in one.roles):
            spec = role.pod_template["spec"]
            assert role.config.engine.type in ("virtual", "virtualModel")
            assert "initContainers" not in spec
            assert not PLACEMENT & spec.keys()
            text = json.dumps(spec)
            for gone in ("nvidia.com", "persistentVolumeClaim", "secretKeyRef", "secretRef"):
                assert gone not in text


def test_plain_variables_and_parallelism_stay() -> None:
    rehearsed = rehearse(service(decode=PRODUCTION))
    assert [variable.name for variable in rehearsed.spec.decode.env] == ["PLAIN"]
    assert rehearsed.spec.decode.parallelism.tensor == 2


def test_what_an_override_leaves_open_stays_the_services() -> None:
    asked = service(versions=[version(decode={"replicas": 2})], decode=PRODUCTION)
    decode = plan_service(rehearse(asked)).revisions[0].roles[1]
    assert decode.replicas == 2
    assert [variable.name for variable in decode.spec.env] == ["PLAIN"]


def test_rehearsing_twice_changes_nothing() -> None:
    once = rehearse(service(decode=PRODUCTION))
    assert rehearse(once) == once


def test_a_rehearsed_service_is_a_valid_one(samples: dict[str, InferenceService]) -> None:
    for asked in samples.values():
        rehearsed = rehearse(asked)
        text = rehearsed.model_dump_json(by_alias=True, exclude_none=True, exclude_unset=True)
        assert InferenceService.model_validate_json(text).spec == rehearsed.spec
