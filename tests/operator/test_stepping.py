"""How far one step of a rollout goes."""

from hypothesis import given
from hypothesis import strategies as st
from tandem_api.inference_service import RolloutSpec
from tandem_operator.planning.resolving import Role
from tandem_operator.planning.stepping import Bounds, bounds, grown, kept, space, stage

counts = st.integers(1, 9)
desires = st.fixed_dictionaries({"prefill": counts, "decode": counts})
rollouts = st.builds(
    lambda surge, unavailable: RolloutSpec(maxSurge=surge, maxUnavailable=unavailable if surge else unavailable + 1),
    st.integers(0, 3),
    st.integers(0, 3),
)


def test_shares_of_the_replicas_are_rounded_as_a_deployment_rounds_them() -> None:
    rollout = RolloutSpec(maxSurge="25%", maxUnavailable="25%")
    assert bounds(rollout, {"prefill": 1, "decode": 6}) == {"prefill": Bounds(1, 0), "decode": Bounds(2, 1)}


def test_one_worker_may_be_missing_where_neither_share_comes_to_one() -> None:
    assert bounds(RolloutSpec(maxSurge=0, maxUnavailable="10%"), {"decode": 2}) == {"decode": Bounds(0, 1)}


def test_stages_keep_the_ratio_of_the_roles_and_a_pair_from_the_first_on() -> None:
    stages = [tuple(stage({"prefill": 2, "decode": 4}, k).values()) for k in range(5)]
    assert stages == [(0, 0), (1, 1), (1, 2), (1, 3), (2, 4)]


@given(desires, rollouts)
def test_steps_lead_from_one_revision_to_the_other_within_the_bounds(
    desired: dict[Role, int], rollout: RolloutSpec
) -> None:
    limits = bounds(rollout, desired)
    splits = all(count + limits[role].surge > 1 for role, count in desired.items())
    old, new = dict(desired), dict.fromkeys(desired, 0)
    for _ in range(100):
        room = {role: count + limits[role].surge - old[role] for role, count in desired.items()}
        grows = grown(desired, new, room)
        keep = kept(desired, new, limits, splits=splits)
        shrinks = {role: min(old[role], keep[role]) for role in old}
        for role, count in desired.items():
            # Whichever is done first, and if the other fails.
            assert grows[role] + old[role] <= count + limits[role].surge
            if splits:
                assert new[role] + shrinks[role] >= count - limits[role].unavailable
        assert not splits or all(new.values()) or all(shrinks.values())
        assert all(shrinks.values()) or not any(shrinks.values())
        if (grows, shrinks) == (new, old):
            break
        old, new = shrinks, grows
    assert new == desired
    assert not any(old.values())


@given(desires, rollouts)
def test_what_may_be_kept_leaves_room_for_the_next_stage(desired: dict[Role, int], rollout: RolloutSpec) -> None:
    limits = bounds(rollout, desired)
    room = space(desired, dict.fromkeys(desired, 0), limits)
    assert all(desired[role] + limits[role].surge - room[role] >= 1 for role in desired)


def test_nothing_is_kept_for_a_version_that_is_asked_to_stop() -> None:
    limits = bounds(RolloutSpec(), {"prefill": 1, "decode": 0})
    assert kept({"prefill": 1, "decode": 0}, {"prefill": 0, "decode": 0}, limits, splits=True) == {
        "prefill": 0,
        "decode": 0,
    }
