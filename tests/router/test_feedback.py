"""Scores that clients post back for response ids: `/v1/feedback`."""

from pathlib import Path

import pytest
from tandem_api.inference_service import RoutingSpec
from tandem_api.status import RouterStatus
from tandem_api.topology import ExperimentRoutes, Topology
from tandem_operator.planning.experiments.ledger import evidence, merge

from tests.router.conftest import OpenHouse
from tests.router.house import House, fake, house, topology_of, until

HALVES = (("v1", 50), ("v2", 50))
SCORE = ({"metric": "score"},)
KEY = {"id_key": b"shared"}


def two():
    return [fake("decode", "d1"), fake("decode", "d2", version="v2")]


async def begin(h: House, id: str = "e1", decide=SCORE, routing: RoutingSpec | None = None) -> None:
    experiment = ExperimentRoutes.model_validate(
        {"id": id, "champion": "v1", "challenger": "v2", "decide": list(decide)}
    )
    (service,) = topology_of(h.decode, routing or RoutingSpec(), HALVES).services
    h.write_topology(Topology(services=(service.model_copy(update={"experiment": experiment}),)))
    await until(lambda: (counting := h.router.fleet.services["org/m"].counting) is not None and counting.id == id)


async def answered(h: House, user: str = "") -> str:
    id: str = (await h.chat(headers={"x-user-id": user} if user else {})).json()["id"]
    return id


async def post(h: House, id: str, score: float):
    return await h.http.post("/v1/feedback", json={"id": id, "score": score})


async def told(h: House):
    status = RouterStatus.model_validate((await h.http.get("/tandem/v1/status")).json())
    return status.services[0].experiments


async def test_a_score_counts_for_the_version_that_answered(open_house: OpenHouse) -> None:
    async with open_house(decode=two(), versions=HALVES) as h:
        await begin(h)
        given = {"v1": 0.9, "v2": 0.4}
        count = {"v1": 0, "v2": 0}
        for _ in range(20):
            id = await answered(h)
            version = h.router.ids.read("chatcmpl-", id).version
            count[version] += 1
            answer = await post(h, id, given[version])
            assert answer.json() == {"object": "feedback", "id": id, "score": given[version], "counts": True}
        (found,) = evidence(await told(h), "score", events=False).outcomes
        assert found.champion == {0.1: count["v1"]}
        assert found.challenger == {0.6: count["v2"]}
        assert all(count.values())


async def test_any_replica_takes_it_and_both_together_count_it_once(open_house: OpenHouse, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with (
        open_house(decode=two(), versions=HALVES, **KEY) as one,
        house(tmp_path / "other", decode=two(), versions=HALVES, **KEY) as other,
    ):
        await begin(one)
        await begin(other)
        id = await answered(one)
        assert (await post(other, id, 1.0)).status_code == 200
        assert (await post(one, id, 1.0)).status_code == 200
        merged = evidence(merge(await told(one), await told(other)), "score", events=False)
        assert merged.count("champion") + merged.count("challenger") == 1


async def test_a_sticky_user_counts_once(open_house: OpenHouse) -> None:
    routing = RoutingSpec.model_validate({"stickyBy": {"header": "x-user-id"}})
    async with open_house(decode=two(), versions=HALVES) as h:
        await begin(h, routing=routing)
        for score in (0.2, 0.9):
            assert (await post(h, await answered(h, "ann"), score)).status_code == 200
        (report,) = await told(h)
        assert [outcome for _, outcome in report.shares[0].metrics[0].first.values()] == [0.8]


async def test_an_id_has_one_score(open_house: OpenHouse) -> None:
    async with open_house(decode=two(), versions=HALVES) as h:
        await begin(h)
        id = await answered(h)
        assert [(await post(h, id, score)).status_code for score in (0.5, 0.5, 0.6)] == [200, 200, 409]
        version = h.router.ids.read("chatcmpl-", id).version
        name = f'tandem_router_score_count{{service="default/m",version="{version}"}}'
        assert await h.metric(name) == 1


async def test_without_an_experiment_a_score_is_counted_for_the_version_alone(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d1")]) as h:
        answer = await post(h, await answered(h), 0.5)
        assert (answer.status_code, answer.json()["counts"]) == (200, False)
        assert await h.metric('tandem_router_score_sum{service="default/m",version="v1"}') == 0.5


async def test_a_score_for_an_experiment_that_is_over_is_refused(open_house: OpenHouse) -> None:
    async with open_house(decode=two(), versions=HALVES) as h:
        await begin(h, "e1")
        id = await answered(h)
        await begin(h, "e2")
        answer = await post(h, id, 0.5)
        assert (answer.status_code, "is over" in answer.json()["error"]["message"]) == (410, True)


async def test_an_id_that_was_issued_under_another_key_is_unknown(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d1")]) as h:
        answer = await post(h, "chatcmpl-made-up", 0.5)
        assert answer.status_code == 404
        assert "was not issued here" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b'{"score": 1}', "missing required field id"),
        (b'{"id": "x", "score": 1.5}', "score: expected float <= 1"),
        (b'{"id": "x", "score": "good"}', "score: expected float"),
        (b'{"id": "x", "score": 1, "comment": "?"}', "unknown field comment"),
    ],
)
async def test_what_can_not_be_read_is_said(open_house: OpenHouse, body: bytes, says: str) -> None:
    async with open_house(decode=[fake("decode", "d1")]) as h:
        answer = await h.http.post("/v1/feedback", content=body)
        assert (answer.status_code, says in answer.json()["error"]["message"]) == (400, True), answer.text
