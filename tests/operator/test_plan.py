"""What a plan asks for, and what it says, for single situations; rollouts have tests of their own."""

from collections.abc import Mapping
from typing import Any

import pytest
from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import Condition
from tandem_operator.planning import Installation, Observed, Peer, Plan, Policies, Settings, plan
from tandem_operator.planning.autoscaling import quantity
from tandem_operator.planning.observed import Child, Deployment, Pod, Resolution, Trouble

from tests.operator.making import fields_of, service, version

COMMIT = "a" * 40
PINNED = {"hf://org/name": Resolution(f"hf://org/name@{COMMIT}")}
VIRTUAL = {"versions": [version(engine={"type": "virtual"})]}


def planned(asked: InferenceService, observed: Observed | None = None, **installation: Any) -> Plan:
    return plan(asked, observed or Observed(sources=PINNED), 1000.0, Installation(**installation))


def objects(made: Plan) -> dict[tuple[str, str], Mapping[str, Any]]:
    found = {(one["kind"], one["metadata"]["name"]): one for one in made.apply}
    assert len(found) == len(made.apply)
    return found


def condition(made: Plan, type: str) -> Condition:
    assert made.status is not None
    return next(one for one in made.status.conditions if one.type == type)


def after(asked: InferenceService, made: Plan) -> InferenceService:
    return asked.model_copy(update={"status": made.status})


def deployments(made: Plan) -> tuple[Deployment, ...]:
    return tuple(
        Deployment(
            name=name,
            uid=name,
            resource_version="1",
            version=one["metadata"]["labels"]["tandem.dev/version"],
            revision=one["metadata"]["labels"]["tandem.dev/revision"],
            role=one["metadata"]["labels"]["tandem.dev/role"],
            replicas=one["spec"]["replicas"],
            created=900.0,
        )
        for (kind, name), one in objects(made).items()
        if kind == "Deployment"
    )


def test_each_role_of_a_revision_has_its_objects_and_the_service_its_own() -> None:
    asked = service(prefill={"replicas": 2}, decode={"autoscaling": {"max": 3}})
    made = planned(asked, policies=Policies(Peer(pods={"app": "router"})))
    kinds = sorted(
        (kind, name.removeprefix("llama-").partition("-")[2].rpartition("-")[0]) for kind, name in objects(made)
    )
    assert [kind for kind, _ in kinds] == [
        "ConfigMap", "ConfigMap", "Deployment", "Deployment", "NetworkPolicy", "NetworkPolicy", "NetworkPolicy",
        "PodDisruptionBudget", "PodDisruptionBudget", "Service", "Service", "ServiceAccount",
    ]  # fmt: skip


def test_every_object_belongs_to_the_service_and_goes_with_it() -> None:
    asked = service(**VIRTUAL)
    for one in planned(asked).apply:
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("InferenceService", "llama", True)
        assert not owner["blockOwnerDeletion"]
        assert one["metadata"]["namespace"] == "default"
        assert one["metadata"]["labels"]["tandem.dev/service"] == "llama"


def test_an_object_is_applied_again_only_when_it_changes_and_a_fixed_one_never() -> None:
    asked = service(**VIRTUAL)
    made = planned(asked)
    children = tuple(
        Child(kind, name, name, applied=one["metadata"]["annotations"]["tandem.dev/applied"], fields=fields_of(one))
        for (kind, name), one in objects(made).items()
        if kind != "Deployment"
    )
    seen = Observed(deployments=deployments(made), children=children)
    assert planned(after(asked, made), seen).apply == ()
    old = Observed(deployments=seen.deployments, children=tuple(Child(c.kind, c.name, c.uid) for c in children))
    again = {one["kind"] for one in planned(after(asked, made), old).apply}
    assert again == {"ServiceAccount", "Service", "PodDisruptionBudget"}


def test_nothing_is_done_for_a_service_that_is_being_deleted() -> None:
    asked = service(**VIRTUAL)
    metadata = asked.metadata.model_copy(update={"deletion_timestamp": "2026-01-01T00:00:00Z"})
    assert planned(asked.model_copy(update={"metadata": metadata})) == Plan()


def test_a_service_whose_name_is_taken_runs_nothing_and_says_whose_it_is() -> None:
    made = planned(service(**VIRTUAL), Observed(name_owner="default/older"))
    assert made.apply == ()
    ready = condition(made, "Ready")
    assert (ready.status, ready.reason) == ("False", "ModelNameTaken")
    assert "default/older" in ready.message
    assert made.status is not None
    assert made.status.versions == ()


def test_a_branch_is_found_out_before_anything_is_made() -> None:
    made = planned(service(versions=[version(sourceSecret={"name": "hf"})]), Observed())
    assert [(one.source, one.secret) for one in made.resolve] == [("hf://org/name", "hf")]
    assert not [one for one in made.apply if one["kind"] == "Deployment"]
    assert condition(made, "Ready").reason in {"ResolvingSource", "NoRouter"}


def test_a_branch_that_goes_on_and_another_default_image_change_no_revision() -> None:
    asked = service()
    made = planned(asked)
    moved = Observed(deployments=deployments(made), sources={"hf://org/name": Resolution(f"hf://org/name@{'b' * 40}")})
    later = planned(after(asked, made), moved, settings=Settings(vllm_image="acme/worker:2"))
    assert not [one for one in later.apply if one["kind"] == "Deployment"]
    assert later.resolve == ()
    assert made.status is not None
    state = made.status.versions[0].revisions[0]
    assert (state.source, state.image) == (f"hf://org/name@{COMMIT}", Settings().vllm_image)


def test_a_change_and_its_revert_lead_back_to_the_same_revision_though_the_default_image_moved() -> None:
    asked = service(**VIRTUAL)
    made = planned(asked)
    changed = service(versions=[version(engine={"type": "virtual", "args": ["--seed=2"]})])
    seen = Observed(deployments=deployments(made))
    second = planned(after(changed, made), seen, settings=Settings(virtual_image="acme/worker:2"))
    assert made.status is not None
    assert second.status is not None
    back = planned(after(asked, second), seen, settings=Settings(virtual_image="acme/worker:2"))
    assert back.status is not None
    assert back.status.versions[0].revision == made.status.versions[0].revision


def test_a_source_that_can_not_be_pinned_runs_as_it_is_written_and_status_says_so() -> None:
    made = planned(service(), Observed(sources={"hf://org/name": Resolution(error="the hub answers 401.")}))
    degraded = condition(made, "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "SourceNotPinned")
    assert "the hub answers 401." in degraded.message
    assert made.status is not None
    assert made.status.versions[0].revisions[0].source == "hf://org/name"


TROUBLES = {
    "ImageUnavailable": (Trouble("ErrImagePull", "", "acme/x:typo"), "image acme/x:typo can't be pulled"),
    "CrashLooping": (Trouble("CrashLoopBackOff", "exit code 1: no GPU"), "workers crash (1 pod, 1 min): exit code 1"),
    "Misconfigured": (Trouble("CreateContainerConfigError", 'secret "x" not found'), 'secret "x" not found'),
    "Unschedulable": (Trouble("Unschedulable", "0/3 nodes: Insufficient nvidia.com/gpu"), "Insufficient nvidia.com"),
}


@pytest.mark.parametrize("reason", TROUBLES)
def test_what_holds_workers_up_is_said_with_what_to_do(reason: str) -> None:
    trouble, text = TROUBLES[reason]
    asked = service(**VIRTUAL)
    made = planned(asked)
    decode = next(one for one in deployments(made) if one.role == "decode")
    pod = Pod("a", "a", decode.version, decode.revision, "decode", created=930.0, trouble=trouble)
    later = planned(after(asked, made), Observed(deployments=deployments(made), pods=(pod,)))
    progressing = condition(later, "Progressing")
    assert text in progressing.message
    assert "spec.versions[0]" in progressing.message
    if reason != "Unschedulable":
        assert (progressing.status, progressing.reason) == ("False", reason)
    assert later.again_after is not None


def test_workers_and_sources_are_swapped_in_a_rehearsal() -> None:
    made = planned(service(decode={"resources": {"limits": {"nvidia.com/gpu": 1}}}), Observed(), rehearse=True)
    pods = [one["spec"]["template"]["spec"] for one in made.apply if one["kind"] == "Deployment"]
    assert len(pods) == 2
    assert "nvidia.com/gpu" not in str(pods)
    assert made.resolve == ()


def test_an_autoscaler_scales_by_the_metrics_of_its_version_and_role() -> None:
    metrics = [{"name": "queueDepth", "target": "4"}, {"name": "kvUse", "target": "80%"}]
    asked = service(**VIRTUAL, decode={"autoscaling": {"min": 2, "max": 5, "metrics": metrics}})
    made = planned(asked)
    second = planned(after(asked, made), Observed(deployments=deployments(made)))
    scaler = next(one for one in second.apply if one["kind"] == "HorizontalPodAutoscaler")
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)
    depth, use = (metric["external"] for metric in scaler["spec"]["metrics"])
    assert depth["metric"]["name"] == "tandem_queue_depth"
    assert depth["metric"]["selector"]["matchLabels"] == {
        "tandem.dev/service": "llama",
        "tandem.dev/version": "v1",
        "tandem.dev/role": "decode",
    }
    assert depth["target"] == {"type": "AverageValue", "averageValue": "4"}
    assert use["target"] == {"type": "Value", "value": "800m"}


def test_targets_are_written_as_quantities() -> None:
    given = ("4", "0.5", "80%", "500ms", "2s", "0.25s")
    assert [quantity(target) for target in given] == ["4", "500m", "800m", "500m", "2", "250m"]
