"""Versions whose source is the registry's: what they run, what is asked, and what is said when another is activated."""

import json
from typing import Any

import pytest
from tandem_api.inference_service import InferenceService
from tandem_api.inference_service.status import Condition
from tandem_operator.planning import Installation, Observed, Peer, Plan, Policies, Settings, plan
from tandem_operator.planning.observed import Deployment, Resolution
from tandem_operator.planning.pods import CONFIG_FILE

from tests.operator.making import service, version

URL = "http://registry"
SOURCE = "registry://qwen3"
SETTINGS = Settings(registry_url=URL)
AWAY = {SOURCE: Resolution(error="The registry can't be asked.")}


def stands_for(number: int, source: str = SOURCE) -> dict[str, Resolution]:
    return {source: Resolution(pinned(number), registered=f"qwen3/v{number}")}


def pinned(number: int) -> str:
    return f"registry://qwen3/v{number}?sha256={str(number) * 64}"


def asked(source: str = SOURCE, **fields: Any) -> InferenceService:
    return service(versions=[version(source=source, **fields)])


def planned(
    resource: InferenceService,
    sources: dict[str, Resolution],
    before: Plan | None = None,
    settings: Settings = SETTINGS,
) -> Plan:
    """The next plan, after what `before` asked for was done."""
    found = deployments(before) if before else ()
    if before is not None:
        resource = resource.model_copy(update={"status": before.status or resource.status})
    return plan(resource, Observed(deployments=found, sources=sources), 1000.0, Installation(settings))


def deployments(made: Plan) -> tuple[Deployment, ...]:
    return tuple(
        Deployment(
            name=one["metadata"]["name"],
            uid=one["metadata"]["name"],
            resource_version="1",
            version=one["metadata"]["labels"]["tandem.dev/version"],
            revision=one["metadata"]["labels"]["tandem.dev/revision"],
            role=one["metadata"]["labels"]["tandem.dev/role"],
            replicas=one["spec"]["replicas"],
            created=900.0,
        )
        for one in made.apply
        if one["kind"] == "Deployment"
    )


def fetched(made: Plan) -> set[str]:
    """The sources of the Deployments that are made."""
    pods = [one["spec"]["template"]["spec"] for one in made.apply if one["kind"] == "Deployment"]
    return {args[args.index("--source") + 1] for pod in pods for args in (pod["initContainers"][0]["args"],)}


def state(made: Plan) -> Any:
    assert made.status is not None
    return made.status.versions[0]


def condition(made: Plan, type: str) -> Condition:
    assert made.status is not None
    return next(one for one in made.status.conditions if one.type == type)


def test_the_active_version_is_found_out_before_anything_is_made() -> None:
    made = planned(asked(), {})
    assert made.follow == (SOURCE,)
    assert made.uses == ()
    assert not deployments(made)
    assert condition(made, "Progressing").reason == "ResolvingSource"


def test_workers_run_the_version_that_is_active_by_its_digest_and_it_is_in_use() -> None:
    made = planned(asked(), stands_for(1))
    assert fetched(made) == {pinned(1)}
    assert (made.follow, made.uses) == ((SOURCE,), ("qwen3/v1",))
    assert (state(made).follows, state(made).registered) == (SOURCE, "qwen3/v1")


def test_another_active_version_is_another_revision_and_the_former_stays_in_use_while_it_has_workers() -> None:
    first = planned(asked(), stands_for(1))
    second = planned(asked(), stands_for(2), first)
    assert fetched(second) == {pinned(2)}
    assert second.uses == ("qwen3/v1", "qwen3/v2")
    assert state(second).revision != state(first).revision
    [event] = [one for one in second.events if one.reason == "VersionActivated"]
    assert "registry://qwen3 stands for qwen3/v2, before for qwen3/v1" in event.message
    rolling = condition(second, "Progressing").message
    assert f"{state(second).revision} (qwen3/v2) in place of {state(first).revision} (qwen3/v1)" in rolling


def test_a_rollback_leads_to_the_former_revision_though_the_default_image_moved() -> None:
    first = planned(asked(), stands_for(1))
    second = planned(asked(), stands_for(2), first)
    seen = Observed(deployments=(*deployments(first), *deployments(second)), sources=stands_for(1))
    upgraded = Installation(Settings(registry_url=URL, vllm_image="acme/worker:2"))
    back = plan(asked().model_copy(update={"status": second.status}), seen, 1000.0, upgraded)
    assert state(back).revision == state(first).revision
    assert not deployments(back)
    assert "qwen3/v1, before for qwen3/v2" in next(
        one.message for one in back.events if one.reason == "VersionActivated"
    )


@pytest.mark.parametrize("sources", [{}, AWAY], ids=["not asked yet", "away"])
def test_while_the_registry_can_not_be_asked_what_was_recorded_stays(sources: dict[str, Resolution]) -> None:
    first = planned(asked(), stands_for(1))
    later = planned(asked(), sources, first)
    assert not deployments(later)
    assert (later.follow, later.uses) == ((SOURCE,), ("qwen3/v1",))
    changed = asked(engine={"type": "vllm", "args": ["--seed=2"]})
    assert fetched(planned(changed, sources, first)) == {pinned(1)}


def test_status_and_an_event_say_that_the_registry_is_away_and_what_it_stays_at() -> None:
    later = planned(asked(), AWAY, planned(asked(), stands_for(1)))
    degraded = condition(later, "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "SourceNotFollowed")
    assert degraded.message.endswith("The registry can't be asked. It stays at qwen3/v1 until it can be asked.")
    assert [(one.type, one.reason) for one in later.events if one.reason == "SourceNotFollowed"] == [
        ("Warning", "SourceNotFollowed")
    ]
    assert condition(planned(asked(), stands_for(1), later), "Degraded").status == "False"


def test_a_service_that_never_knew_waits_for_the_registry_and_says_why() -> None:
    made = planned(asked(), AWAY)
    assert not deployments(made)
    assert condition(made, "Progressing").reason == "SourceUnresolved"
    assert "The registry can't be asked." in condition(made, "Progressing").message
    assert ("Warning", "SourceUnresolved") in [(one.type, one.reason) for one in made.events]


def test_what_another_source_stood_for_is_not_taken_for_this_one() -> None:
    first = planned(asked(), stands_for(1))
    assert not deployments(planned(asked("registry://llama"), {}, first))
    assert not deployments(planned(asked("registry://qwen3@champion"), {}, first))


def test_a_version_that_is_named_is_asked_for_once_and_is_the_same_as_following_it() -> None:
    named = asked("registry://qwen3/v1")
    assert planned(named, {}).follow == ("registry://qwen3/v1",)
    made = planned(named, stands_for(1, "registry://qwen3/v1"))
    assert fetched(made) == {pinned(1)}
    assert (made.follow, made.uses) == ((), ("qwen3/v1",))
    followed = planned(asked(), stands_for(1), made)
    assert not deployments(followed), "no worker is restarted where the same version is followed from now on"


def test_a_registered_version_whose_content_is_on_a_branch_is_one_commit_for_good() -> None:
    branch, commit = "hf://org/name@main", f"hf://org/name@{'a' * 40}"
    registry = {SOURCE: Resolution(branch, registered="qwen3/v1")}
    waits = planned(asked(), registry)
    assert [one.source for one in waits.resolve] == [branch]
    made = planned(asked(), {**registry, branch: Resolution(commit)})
    assert fetched(made) == {commit}
    later = planned(asked(), {**registry, branch: Resolution(f"hf://org/name@{'b' * 40}")}, made)
    assert not deployments(later)
    assert later.resolve == ()


def brought(number: int, *args: str) -> dict[str, Resolution]:
    """As `stands_for`, of a version that brings arguments along."""
    return {SOURCE: Resolution(pinned(number), registered=f"qwen3/v{number}", args=args)}


def engine_args(made: Plan) -> set[tuple[str, ...]]:
    """What the engines of the Deployments that are made are told."""
    configs = [json.loads(one["data"][CONFIG_FILE]) for one in made.apply if one["kind"] == "ConfigMap"]
    return {tuple(config["engine"]["args"]) for config in configs}


def test_a_registered_version_brings_arguments_along_and_the_manifests_own_win() -> None:
    wanted = asked(engine={"args": ["--seed=2"]})
    made = planned(wanted, brought(1, "--max-model-len=8192", "--seed=1"))
    assert engine_args(made) == {("--max-model-len=8192", "--seed=1", "--seed=2")}
    assert state(made).revisions[0].registered_args == ("--max-model-len=8192", "--seed=1")
    assert state(made).revision != state(planned(wanted, stands_for(1))).revision


def test_arguments_that_were_brought_along_hold_while_the_registry_is_away() -> None:
    first = planned(asked(), brought(1, "--seed=1"))
    lost = Observed(sources=AWAY)
    again = plan(asked().model_copy(update={"status": first.status}), lost, 1000.0, Installation(SETTINGS))
    assert engine_args(again) == {("--seed=1",)}, "a deleted Deployment is made as it was"
    changed = asked(engine={"args": ["--max-num-seqs=4"]})
    assert engine_args(planned(changed, AWAY, first)) == {("--seed=1", "--max-num-seqs=4")}


def test_workers_of_a_version_that_is_as_it_was_stay_though_its_arguments_are_not_recorded() -> None:
    first = planned(asked(), stands_for(1))
    assert not deployments(planned(asked(), brought(1, "--seed=1"), first))


def test_virtual_engines_follow_a_registry_where_there_is_one() -> None:
    virtual = asked(engine={"type": "virtual"})
    assert planned(virtual, {}).follow == (SOURCE,)
    assert deployments(planned(virtual, {}, settings=Settings())), "nothing is asked of a registry that there is not"


def test_fetching_pods_know_where_the_registry_is_and_its_key() -> None:
    settings = Settings(registry_url=URL, registry_key=("tandem-key", "key"))
    made = planned(asked(), stands_for(1), settings=settings)
    pod = next(one for one in made.apply if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    env = {one["name"]: one for one in pod["initContainers"][0]["env"]}
    assert env["TANDEM_REGISTRY_URL"]["value"] == URL
    assert env["TANDEM_REGISTRY_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "tandem-key", "key": "key"}}
    assert "TANDEM_REGISTRY_KEY" not in {one["name"] for one in pod["containers"][0]["env"]}
    elsewhere = planned(asked("s3://bucket/model"), {}, settings=settings)
    pod = next(one for one in elsewhere.apply if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert "TANDEM_REGISTRY_URL" not in {one["name"] for one in pod["initContainers"][0]["env"]}


def test_only_pods_that_fetch_from_the_registry_may_speak_to_it() -> None:
    rule = {"to": [{"podSelector": {}}], "ports": [{"port": 8090}]}
    installation = Installation(SETTINGS, policies=Policies(Peer(), registry=(rule,)))
    versions = [version(name="v1", source=SOURCE, weight=50), version(name="v2", source="s3://bucket/m", weight=50)]
    made = plan(service(versions=versions), Observed(sources=stands_for(1)), 1000.0, installation)
    [policy] = [one for one in made.apply if one["metadata"]["name"] == "llama-registry"]
    assert policy["spec"]["egress"] == [rule]
    assert policy["spec"]["podSelector"]["matchExpressions"][0]["values"] == ["v1"]
