"""A version's own settings replace the service's, field by field."""

from tandem_operator.planning import plan_service, resolve

from tests.operator.making import service, version


def test_what_a_version_gives_replaces_what_the_service_gives_and_the_rest_stays() -> None:
    asked = service(
        versions=[version(decode={"nodeSelector": {"gpu": "h200"}})],
        decode={"replicas": 4, "nodeSelector": {"zone": "a"}, "parallelism": {"tensor": 2}},
    )
    decode = resolve(asked, asked.spec.versions[0]).decode
    assert decode.node_selector == {"gpu": "h200"}
    assert (decode.replicas, decode.parallelism.tensor) == (4, 2)


def test_a_versions_replicas_go_before_the_services_autoscaling() -> None:
    asked = service(versions=[version(decode={"replicas": 2})], decode={"autoscaling": {"min": 3, "max": 9}})
    decode = resolve(asked, asked.spec.versions[0]).decode
    assert (decode.replicas, decode.autoscaling) == (2, None)


def test_a_versions_autoscaling_goes_before_the_services_replicas() -> None:
    asked = service(versions=[version(decode={"autoscaling": {"min": 3, "max": 9}})], decode={"replicas": 2})
    assert plan_service(asked).revisions[0].roles[1].replicas == 3


def test_a_version_may_add_the_prefill_that_the_service_lacks() -> None:
    asked = service(versions=[version(prefill={"replicas": 2})], prefill=None)
    assert [(role.role, role.replicas) for role in plan_service(asked).revisions[0].roles] == [
        ("prefill", 2),
        ("decode", 1),
    ]


def test_without_prefill_there_are_decode_workers_alone() -> None:
    revision = plan_service(service(prefill=None)).revisions[0]
    assert [role.role for role in revision.roles] == ["decode"]
    assert not revision.roles[0].config.disaggregated


def test_a_role_has_one_worker_where_nothing_says_how_many() -> None:
    assert [role.replicas for role in plan_service(service()).revisions[0].roles] == [1, 1]


def test_a_role_may_have_none() -> None:
    assert plan_service(service(decode={"replicas": 0})).revisions[0].roles[1].replicas == 0
