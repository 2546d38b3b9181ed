"""A router in front of two versions that are compared."""

import asyncio

from tandem_api.inference_service import RoutingSpec
from tandem_api.status import RouterStatus
from tandem_api.topology import ExperimentRoutes, Topology
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.router.conftest import OpenHouse
from tests.router.fake_worker import fail_with
from tests.router.house import CHAT, House, fake, topology_of, until

EXPERIMENT = ExperimentRoutes.model_validate(
    {"id": "e1", "champion": "v1", "challenger": "v2", "decide": [{"metric": "errorRate"}]}
)
HEADER = RoutingSpec.model_validate({"stickyBy": {"header": "x-user-id"}})
HALVES = (("v1", 50), ("v2", 50))


async def begin(h: House, routing: RoutingSpec, id: str = "e1") -> None:
    (service,) = topology_of(h.decode, routing, HALVES).services
    routes = service.model_copy(update={"experiment": EXPERIMENT.model_copy(update={"id": id})})
    h.topology.with_suffix(".next").write_text(Topology(services=(routes,)).model_dump_json())
    h.topology.with_suffix(".next").replace(h.topology)
    await until(lambda: (counting := h.router.fleet.services["org/m"].counting) is not None and counting.id == id)


async def told(h: House):
    status = RouterStatus.model_validate((await h.http.get("/tandem/v1/status")).json())
    return status.services[0].experiments


def pair(**scripts):
    return [fake("decode", "d1"), fake("decode", "d2", scripts.get("challenger"), version="v2")]


async def test_requests_count_for_the_version_that_served_them(open_house: OpenHouse) -> None:
    broken = fail_with(pb.INTERNAL)
    async with open_house(decode=pair(challenger=broken), versions=HALVES) as h:
        await begin(h, RoutingSpec())
        answers = [await h.http.post("/v1/chat/completions", json=CHAT) for _ in range(30)]
        failed = sum(answer.status_code >= 500 for answer in answers)
        (report,) = await told(h)
        (share,) = report.shares
        assert (share.weight, share.champion, share.challenger) == (50, 30 - failed, failed)
        assert share.metrics[0].single.challenger == {1.0: failed}
        assert share.metrics[0].single.champion == {0.0: 30 - failed}
        assert 0 < failed < 30


async def test_a_user_counts_once_and_stays_with_a_version(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(), versions=HALVES) as h:
        await begin(h, HEADER)
        for _ in range(3):
            for user in range(10):
                await h.http.post("/v1/chat/completions", json=CHAT, headers={"x-user-id": f"user-{user}"})
        (report,) = await told(h)
        (share,) = report.shares
        assert len(share.metrics[0].first) == 10
        assert share.champion + share.challenger == 30
        assert share.champion % 3 == 0


async def test_nothing_counts_while_one_of_them_is_down(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(), versions=HALVES) as h:
        await begin(h, RoutingSpec())
        h.decode[1].report(draining=True)
        await until(lambda: not h.router.fleet.services["org/m"].versions["v2"].ready)
        assert (await h.http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        (report,) = await told(h)
        assert report.shares == ()


async def test_another_experiment_begins_from_nothing(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(), versions=HALVES) as h:
        await begin(h, RoutingSpec())
        await asyncio.gather(*(h.http.post("/v1/chat/completions", json=CHAT) for _ in range(4)))
        (before,) = await told(h)
        await begin(h, RoutingSpec(), "e2")
        (after,) = await told(h)
        assert (before.id, after.id, after.shares) == ("e1", "e2", ())
        assert before.incarnation != after.incarnation
