"""What routers are told."""

from tandem_api.topology import ServiceRoutes
from tandem_operator.planning import Endpoint, plan_service, routes

from tests.operator.making import service, version

TWO = [version(weight=90), version(name="v2", source="hf://org/other", weight=10)]


def test_workers_stand_under_their_version_and_revision() -> None:
    plan = plan_service(service(versions=TWO))
    v1, v2 = plan.revisions
    found = routes(
        plan,
        [
            Endpoint("v2", v2.revision, "decode", "d", "127.0.0.3:9000"),
            Endpoint("v1", v1.revision, "decode", "b", "127.0.0.2:9000"),
            Endpoint("v1", v1.revision, "prefill", "a", "127.0.0.1:9000"),
        ],
    )
    assert [
        (one.name, one.weight, [(rev.name, [worker.address for worker in rev.workers]) for rev in one.revisions])
        for one in found.versions
    ] == [
        ("v1", 90, [(v1.revision, ["127.0.0.1:9000", "127.0.0.2:9000"])]),
        ("v2", 10, [(v2.revision, ["127.0.0.3:9000"])]),
    ]


def test_a_version_without_workers_is_there_with_none() -> None:
    (version,) = routes(plan_service(service()), []).versions
    assert [rev.workers for rev in version.revisions] == [()]
    assert version.revisions[0].disaggregated


def test_the_wanted_revision_goes_before_former_ones() -> None:
    plan = plan_service(service())
    wanted = plan.revisions[0].revision
    former = [
        Endpoint("v1", "0ld", "decode", "b", "127.0.0.1:9000"),
        Endpoint("v1", "0ld", "prefill", "a", "127.0.0.2:9000"),
        Endpoint("v1", "alone", "decode", "c", "127.0.0.3:9000"),
    ]
    (version,) = routes(plan, former).versions
    assert [(rev.name, rev.disaggregated) for rev in version.revisions] == [
        (wanted, True),
        ("0ld", True),
        ("alone", False),
    ]


def test_workers_of_a_version_that_is_gone_are_left_out() -> None:
    (version,) = routes(plan_service(service()), [Endpoint("v0", "x", "decode", "a", "127.0.0.1:9000")]).versions
    assert all(not rev.workers for rev in version.revisions)


def test_routes_survive_their_file() -> None:
    found = routes(plan_service(service(routing={"requestTimeout": "90s"})), [], created=17)
    assert ServiceRoutes.model_validate_json(found.model_dump_json()) == found
    assert (found.model, found.routing.request_timeout, found.created) == ("llama", 90.0, 17)


EXPERIMENT = {"champion": "v2", "challenger": "v1", "decide": [{"metric": "errorRate"}]}
PAIR = [version(), version(name="v2", source="hf://org/other")]


def test_a_challenger_comes_last_and_begins_with_nothing() -> None:
    asked = service(versions=PAIR, experiment={**EXPERIMENT, "steps": [{"weight": 5}]})
    found = routes(plan_service(asked), [])
    assert [(one.name, one.weight) for one in found.versions] == [("v2", 100), ("v1", 0)]


def test_an_experiments_fixed_weight_is_the_challengers() -> None:
    asked = service(versions=PAIR, experiment={**EXPERIMENT, "weight": 30})
    assert [(one.name, one.weight) for one in routes(plan_service(asked), []).versions] == [("v2", 70), ("v1", 30)]
