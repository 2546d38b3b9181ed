"""A revision changes with what restarts workers, and with nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_operator.planning import Settings, plan_service, resolve, revision_of

from tests.operator.making import service, version


def revision(**spec: Any) -> str:
    return plan_service(service(**spec)).revisions[0].revision


def version_revision(**fields: Any) -> str:
    return revision(versions=[version(**fields)])


RESTARTING: dict[str, dict[str, Any]] = {
    "source": {"versions": [version(source="hf://org/name@main")]},
    "secret": {"versions": [version(sourceSecret={"name": "hf"})]},
    "image": {"versions": [version(image="acme/worker:1")]},
    "args": {"versions": [version(engine={"args": ["--seed=1"]})]},
    "engine": {"versions": [version(engine={"type": "virtual"})]},
    "model": {"model": "other"},
    "resources": {"decode": {"resources": {"limits": {"cpu": 1}}}},
    "parallelism": {"prefill": {"parallelism": {"tensor": 2}}},
    "env": {"decode": {"env": [{"name": "A", "value": "x"}]}},
    "placement": {"prefill": {"nodeSelector": {"gpu": "l40s"}}},
    "an override": {"versions": [version(decode={"nodeSelector": {"gpu": "l40s"}})]},
    "connector": {"kvTransfer": {"connector": "nixl"}},
    "no prefill": {"prefill": None},
}
IDLE: dict[str, dict[str, Any]] = {
    "weight": {"versions": [version(weight=100)]},
    "replicas": {"decode": {"replicas": 7}},
    "an override of replicas": {"versions": [version(decode={"replicas": 7})]},
    "autoscaling": {"prefill": {"autoscaling": {"max": 7}}},
    "routing": {"routing": {"disaggregateFrom": 9, "stickyBy": {"user": True}}},
    "rollout": {"rollout": {"maxSurge": 2}},
    "defaults written out": {"decode": {"parallelism": {"tensor": 1}}, "kvTransfer": {"leaseTtl": "1m"}},
    "a setting of the virtual engine": {"versions": [version(engine={"virtual": {"slots": 3}})]},
}


@pytest.mark.parametrize("spec", RESTARTING.values(), ids=RESTARTING)
def test_a_change_makes_another_revision(spec: dict[str, Any]) -> None:
    assert revision(**spec) != revision()


def test_no_two_of_these_changes_make_the_same_revision() -> None:
    assert len({revision(**spec) for spec in RESTARTING.values()}) == len(RESTARTING)


@pytest.mark.parametrize("spec", IDLE.values(), ids=IDLE)
def test_a_change_that_needs_no_restart_makes_none(spec: dict[str, Any]) -> None:
    assert revision(**spec) == revision()


def test_the_virtual_engines_settings_restart_virtual_engines() -> None:
    assert version_revision(engine={"type": "virtual"}) != version_revision(
        engine={"type": "virtual", "virtual": {"slots": 3}}
    )


def test_without_prefill_the_transfer_does_not_matter() -> None:
    assert revision(prefill=None) == revision(prefill=None, kvTransfer={"connector": "nixl"})


def test_an_installations_settings_restart_nothing_where_the_image_was_resolved_before() -> None:
    asked = service()
    before = resolve(asked, asked.spec.versions[0], Settings(vllm_image="worker:1"))
    upgraded = Settings(vllm_image="worker:2", tls_secret="tls", env={"A": "x"})
    after = resolve(asked, asked.spec.versions[0], upgraded, image=before.image)
    assert revision_of(after) == revision_of(before)


def test_a_source_is_what_it_was_resolved_to() -> None:
    asked = service()
    one, two = (
        plan_service(asked, sources={"v1": f"hf://org/name@{commit}"}).revisions[0].revision for commit in ("a", "b")
    )
    assert one != two


@given(replicas=st.integers(0, 100), weight=st.integers(0, 100))
def test_two_versions_keep_their_revisions_whatever_the_traffic(replicas: int, weight: int) -> None:
    def revisions(replicas: int, weight: int) -> list[str]:
        versions = [version(weight=weight), version(name="v2", source="hf://org/other", weight=100 - weight)]
        asked = service(versions=versions, decode={"replicas": replicas})
        return [one.revision for one in plan_service(asked).revisions]

    assert revisions(replicas, weight) == revisions(1, 50)


def test_revisions_are_stable_between_releases() -> None:
    # A release that names the same spec otherwise would restart every worker: change this only with the API version.
    asked = service(decode={"replicas": 2, "resources": {"limits": {"nvidia.com/gpu": 1}}})
    assert plan_service(asked, Settings(vllm_image="worker:1")).revisions[0].revision == "af1441c3"
