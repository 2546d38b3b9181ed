"""What the operator makes of the changes that people make."""

from dataclasses import replace

from tests.rollouts.manifests import BROKEN, Ask
from tests.rollouts.steady import Story

TWO = Ask(versions=(("v1", 0), ("v2", 1)))


def test_a_service_that_is_applied_becomes_ready_and_then_nothing_is_written() -> None:
    story = Story(Ask(prefill=1, decode=2)).settle()
    assert {one.type: one.status for one in story.status.conditions} == {
        "Ready": "True",
        "PrefillReady": "True",
        "DecodeReady": "True",
        "RouterReady": "True",
        "ScalingReady": "True",
        "Progressing": "True",
        "Degraded": "False",
    }
    assert story.condition("Progressing").reason == "Complete"
    assert story.status.summary is not None
    assert (story.status.summary.versions, story.status.summary.prefill, story.status.summary.decode) == (
        "v1=100",
        "1/1",
        "2/2",
    )
    assert not story.operator.plan().writes


def test_a_service_is_not_ready_before_its_workers_are_let_in() -> None:
    story = Story(Ask())
    story.round()
    assert story.condition("Ready").status == "False"
    assert story.condition("PrefillReady").reason == "WorkersMissing"


def test_without_a_router_nobody_is_let_in() -> None:
    story = Story(Ask(), routers=0).settle()
    assert not any(pod.routable for pod in story.world.pods.values())
    assert story.condition("RouterReady").reason == "NoRouter"


def test_a_changed_version_moves_in_steps_that_keep_a_pair_and_the_bounds() -> None:
    story = Story(Ask(prefill=2, decode=4)).settle()
    story.ask(Ask(versions=(("v1", 1),), prefill=2, decode=4))
    most = {"prefill": 0, "decode": 0}
    while story.round():
        for role in most:
            asked = sum(counts.get(role, 0) for counts in story.replicas().values())
            most[role] = max(most[role], asked)
        assert all("v1" in story.world.able(router) for router in story.world.routers)
    assert most == {"prefill": 3, "decode": 5}
    assert story.replicas() == {story.revision(story.world.ask): {"prefill": 2, "decode": 4}}


def _both_serve(story: Story) -> bool:
    return sum(pod.ready for pod in story.world.pods.values()) == 4


def test_a_former_revisions_last_pair_goes_only_after_every_router_has_stopped() -> None:
    story = Story(Ask()).settle()
    old = story.revision(story.world.ask)
    story.ask(Ask(versions=(("v1", 1),)))
    late = story.world.routers[1]
    while all(state.traffic for state in story.status.versions[0].revisions):
        # It has heard of the wanted revision, so that its workers were let in, and does not hear what follows.
        story.round(deaf=late if len(story.status.versions[0].revisions) > 1 and _both_serve(story) else None)
    for _ in range(5):
        story.round(deaf=late)
        assert story.replicas()[old] == {"prefill": 1, "decode": 1}
    story.settle()
    assert old not in story.replicas()


def test_a_revert_in_mid_rollout_goes_back_without_deleting_a_pod_that_serves() -> None:
    first = Ask(prefill=2, decode=3)
    story = Story(first).settle()
    story.ask(replace(first, versions=(("v1", 1),)))
    for _ in range(5):
        story.round()
    old = story.revision(first)
    assert len(story.replicas()) == 2
    kept = {name for name in story.pods() if old in name}
    story.ask(first).settle()
    assert story.replicas() == {old: {"prefill": 2, "decode": 3}}
    assert kept <= story.pods()


def test_a_broken_image_leaves_the_former_revision_serving_and_says_what_to_do() -> None:
    story = Story(TWO).settle()
    story.ask(TWO.with_build("v2", BROKEN)).settle()
    progressing = story.condition("Progressing")
    assert (progressing.status, progressing.reason) == ("False", "ImageUnavailable")
    assert "image acme/worker:typo can't be pulled (2 pods" in progressing.message
    assert progressing.message.endswith("Fix spec.versions[1].image or remove v2.")
    assert story.condition("Ready").status == "True"
    assert {one.name: one.effective_weight for one in story.status.versions} == {"v1": 90, "v2": 10}


def test_a_version_that_never_came_up_gets_no_traffic_and_status_says_who_has_its_share() -> None:
    story = Story(TWO.with_build("v2", BROKEN)).settle()
    v2 = story.status.versions[1]
    assert (v2.effective_weight, v2.share_moved_to) == (0, ("v1",))
    assert story.status.versions[0].effective_weight == 100
    assert story.condition("Ready").reason == "PartlyServing"
    assert story.condition("Degraded").status == "True"
    assert "v1 still serves all traffic" in story.condition("Progressing").message


def test_several_versions_share_what_a_version_that_never_came_up_was_to_have() -> None:
    story = Story(Ask(versions=(("v1", 0), ("v2", 1), ("v3", BROKEN)))).settle()
    assert story.status.versions[2].share_moved_to == ("v1", "v2")
    assert "; v1 and v2 still serve all traffic. Fix" in story.condition("Progressing").message
    assert story.condition("Ready").message == "v3 can't serve: v1 and v2 have its share."


def test_without_surge_requests_are_held_while_no_pair_is_left() -> None:
    ask = Ask(surge=0, unavailable=1)
    story = Story(ask).settle()
    story.ask(replace(ask, versions=(("v1", 1),))).settle()
    held = [status for status in story.seen if status.versions[0].held]
    assert held
    ready = next(one for one in held[-1].conditions if one.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "Held")
    assert "120s" in ready.message
    assert not story.status.versions[0].held
    assert story.condition("Ready").status == "True"


def test_nobody_is_held_for_an_image_that_can_not_be_pulled() -> None:
    ask = Ask(surge=0, unavailable=1)
    story = Story(ask).settle()
    story.ask(ask.with_build("v1", BROKEN)).settle()
    assert not story.status.versions[0].held
    assert story.condition("Progressing").status == "False"


def test_without_surge_a_pair_stays_where_workers_can_be_divided() -> None:
    ask = Ask(prefill=2, decode=2, surge=0, unavailable=1)
    story = Story(ask).settle()
    story.ask(replace(ask, versions=(("v1", 1),)))
    while story.round():
        assert all("v1" in story.world.able(router) for router in story.world.routers)
        assert all(sum(c.get(role, 0) for c in story.replicas().values()) <= 2 for role in ("prefill", "decode"))
    assert not any(status.versions[0].held for status in story.seen)


def test_a_version_that_takes_anothers_place_lets_it_serve_until_it_can() -> None:
    story = Story(Ask()).settle()
    story.ask(Ask(versions=(("v2", 1),)))
    story.round()
    assert [one.name for one in story.status.versions] == ["v2", "v1"]
    while story.round():
        assert all(story.world.able(router) for router in story.world.routers)
    assert [one.name for one in story.status.versions] == ["v2"]
    assert story.replicas("v1") == {}


def test_a_version_that_is_removed_beside_another_goes() -> None:
    story = Story(TWO).settle()
    story.ask(Ask()).settle()
    assert story.replicas("v2") == {}
    assert not [child for child in story.world.children.values() if child.version == "v2"]


def test_scaling_changes_counts_and_makes_no_revision() -> None:
    story = Story(Ask(decode=1)).settle()
    before = story.pods()
    story.ask(Ask(decode=3)).settle()
    assert story.replicas() == {story.revision(Ask()): {"prefill": 1, "decode": 3}}
    assert before <= story.pods()


def test_readiness_does_not_flicker_while_a_version_changes_and_weights_move() -> None:
    story = Story(Ask(prefill=2, decode=2)).settle()
    story.seen.clear()
    for ask in (Ask(versions=(("v1", 1),), prefill=2, decode=2), replace(TWO, prefill=2, decode=2)):
        story.ask(ask).settle()
    ready = {one.status for status in story.seen for one in status.conditions if one.type == "Ready"}
    assert (len(story.seen) > 5, ready) == (True, {"True"})


def test_weights_change_no_pod() -> None:
    story = Story(TWO).settle()
    before = (story.pods(), dict(story.world.deployments))
    service = story.world.resource
    versions = tuple(
        one.model_copy(update={"weight": weight}) for one, weight in zip(service.spec.versions, (50, 50), strict=True)
    )
    spec = service.spec.model_copy(update={"versions": versions})
    story.world.resource = service.model_copy(update={"spec": spec})
    story.settle()
    assert (story.pods(), story.world.deployments) == before
    assert [one.weight for one in story.status.versions] == [50, 50]
    assert story.condition("Ready").status == "True"


def test_no_workers_asked_for_is_no_readiness() -> None:
    story = Story(Ask(decode=1)).settle()
    story.ask(Ask(decode=0)).settle()
    assert story.condition("Ready").reason == "NoReplicas"


def test_less_room_in_mid_rollout_takes_no_pair_from_a_broken_change() -> None:
    ask = Ask(prefill=2, decode=2)
    story = Story(ask).settle()
    broken = ask.with_build("v1", BROKEN)
    story.ask(broken).settle()
    story.ask(replace(broken, prefill=1, surge=0, unavailable=1)).settle()
    assert story.condition("Ready").status == "True"


def test_a_change_to_aggregated_serving_and_back_keeps_serving() -> None:
    story = Story(Ask(prefill=2, decode=2)).settle()
    for ask in (Ask(prefill=None, decode=2), Ask(prefill=2, decode=2)):
        story.ask(ask)
        while story.round():
            assert all("v1" in story.world.able(router) for router in story.world.routers)
        assert list(story.replicas()) == [story.revision(ask)]


def test_a_rollout_keeps_the_count_that_the_autoscaler_asked_for_and_gives_it_the_next_revision() -> None:
    ask = Ask(decode=1, automatic=True)
    story = Story(ask).settle()
    (scaler,) = story.world.autoscalers.values()
    deployment = story.world.deployments[scaler.name]
    story.world.deployments[scaler.name] = replace(deployment, replicas=3, resource_version=story.world.version())
    story.settle()
    after = replace(ask, versions=(("v1", 1),))
    story.ask(after)
    aside = False
    while story.round():
        aside = aside or (not story.world.autoscalers and story.condition("ScalingReady").reason == "SetAside")
    assert aside
    (scaler,) = story.world.autoscalers.values()
    assert scaler.revision == story.revision(after)
    assert story.replicas() == {scaler.revision: {"prefill": 1, "decode": 3}}


def test_turning_autoscaling_off_deletes_the_autoscaler() -> None:
    story = Story(Ask(decode=2, automatic=True)).settle()
    assert story.world.autoscalers
    story.ask(Ask(decode=2)).settle()
    assert not story.world.autoscalers
    assert story.replicas()[story.revision(Ask())]["decode"] == 2


def test_what_a_user_deletes_is_made_again() -> None:
    story = Story(Ask()).settle()
    lost = next(name for name in story.world.deployments if "decode" in name)
    for pod in list(story.world.pods_of(lost)):
        story.world.terminate(pod)
    del story.world.deployments[lost]
    story.world.children.pop(("Service", lost))
    story.settle()
    assert story.replicas() == {story.revision(Ask()): {"prefill": 1, "decode": 1}}
    assert ("Service", lost) in story.world.children


def test_a_router_that_joins_is_waited_for_before_more_workers_are_let_in() -> None:
    story = Story(Ask(), routers=1)
    story.round()
    story.round()
    story.world.routers[0].silent_since = story.world.now
    story.operator.restart()
    assert not story.operator.plan().gates
    assert story.operator.plan().awaits_routers


def test_readiness_and_what_ends_it_are_told_as_events() -> None:
    story = Story(Ask()).settle()
    assert ("Normal", "Serving") in {(event.type, event.reason) for event in story.events}
    story.ask(Ask(versions=(("v1", BROKEN),))).settle()
    assert ("Warning", "ImageUnavailable") in {(event.type, event.reason) for event in story.events}
