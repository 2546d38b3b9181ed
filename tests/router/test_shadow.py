"""Copies of requests for a challenger: nobody notices them but who compares."""

import asyncio

import pytest
from tandem_api.inference_service import RoutingSpec
from tandem_api.registry import KeyLimits
from tandem_api.status import RouterStatus
from tandem_api.topology import ExperimentRoutes, Topology
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.limits.settings import LimitSettings

from tests.router.conftest import OpenHouse
from tests.router.fake_worker import Script, decode_well, fail_with, hang
from tests.router.house import CHAT, STREAM, House, fake, topology_of, until
from tests.router.test_keys import KEYED, STATIC, bearer

SPLIT = (("v1", 100), ("v2", 0))


def pair(challenger: Script = decode_well, champion: Script = decode_well):
    return [fake("decode", "d1", champion), fake("decode", "d2", challenger, version="v2")]


async def begin(h: House, percent: int = 100, most: int = 8, routing: RoutingSpec | None = None) -> None:
    experiment = ExperimentRoutes.model_validate(
        {
            "id": "e1",
            "champion": "v1",
            "challenger": "v2",
            "decide": [{"metric": "errorRate"}, {"metric": "ttft", "threshold": "60s"}],
            "shadow": {"percent": percent, "maxInFlight": most},
        }
    )
    (service,) = topology_of(h.decode, routing or RoutingSpec(), SPLIT).services
    h.write_topology(Topology(services=(service.model_copy(update={"experiment": experiment}),)))
    await until(lambda: h.router.fleet.services["org/m"].shadowed)


async def told(h: House):
    status = RouterStatus.model_validate((await h.http.get("/tandem/v1/status")).json())
    return status.services[0].experiments[0]


def copies(h: House, outcome: str) -> int:
    return h.router.measures.copies["default/m", "v2", outcome]


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_request_is_copied_and_both_are_compared(open_house: OpenHouse, body) -> None:
    async with open_house(decode=pair(), versions=SPLIT) as h:
        await begin(h)
        answer = await h.chat(body)
        assert h.router.ids.read("chatcmpl-", h.decode[0].calls[0].submit.response_id).version == "v1"
        await until(lambda: copies(h, "answered") == 1)
        assert h.decode[1].calls[0].body == h.decode[0].calls[0].body
        assert h.decode[1].calls[0].submit.response_id not in answer.text
        (share,) = (await told(h)).shares
        assert (share.weight, share.champion, share.challenger) == (50, 1, 1)
        assert share.metrics[0].single.champion == share.metrics[0].single.challenger == {0.0: 1}
        assert await h.metric('tandem_router_copies_total{outcome="answered",service="default/m",version="v2"}') == 1


async def test_a_copy_that_fails_is_nobodys_failure(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(fail_with(pb.INTERNAL)), versions=SPLIT) as h:
        await begin(h)
        assert (await h.chat()).status_code == 200
        await until(lambda: copies(h, "failed") == 1)
        (share,) = (await told(h)).shares
        assert share.metrics[0].single.challenger == {1.0: 1}
        assert share.metrics[0].single.champion == {0.0: 1}
        assert not h.router.measures.errors


async def test_what_is_too_much_is_dropped_and_counted(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(hang), versions=SPLIT) as h:
        await begin(h, most=2)
        for _ in range(5):
            assert (await h.chat()).status_code == 200
        await until(lambda: copies(h, "full") == 3 and len(h.decode[1].calls) == 2)
        h.router.copies.stop()


async def test_copies_wait_in_a_room_of_their_own(open_house: OpenHouse) -> None:
    """The service's queue has no room at all: whoever found it taken would be refused."""
    routing = RoutingSpec.model_validate({"queue": {"maxWaiting": 1, "timeout": "30s"}})
    busy = [fake("decode", "d1"), fake("decode", "d2", hang, version="v2", max_running=1)]
    async with open_house(decode=busy, versions=SPLIT, routing=routing) as h:
        await begin(h, most=4, routing=routing)
        for _ in range(4):
            assert (await h.chat()).status_code == 200
        challenger = h.router.fleet.services["org/m"].versions["v2"]
        await until(lambda: len(challenger.queue) == 3)
        assert h.router.fleet.services["org/m"].room.taken == 0
        h.router.copies.stop()


async def test_a_copy_uses_nothing_of_a_keys_limits(open_house: OpenHouse) -> None:
    limits = LimitSettings(key=KeyLimits(requests_per_minute=2, tokens_per_minute=None))
    async with open_house(decode=pair(), versions=SPLIT, access=KEYED, limits=limits) as h:
        await begin(h)
        for done in (1, 2):
            answer = await h.chat(headers=bearer(STATIC))
            assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, str(2 - done))
            await until(lambda done=done: copies(h, "answered") == done)
        assert (await h.chat(headers=bearer(STATIC))).status_code == 429


async def test_without_a_challenger_that_can_serve_nothing_is_copied(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(), versions=SPLIT) as h:
        await begin(h)
        h.decode[1].report(draining=True)
        await until(lambda: not h.router.fleet.services["org/m"].versions["v2"].ready)
        assert (await h.chat()).status_code == 200
        await until(lambda: copies(h, "not_ready") == 1)


async def test_a_share_of_the_requests_is_copied(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(), versions=SPLIT) as h:
        await begin(h, percent=20)
        answers = [h.chat(headers={"x-request-id": f"request-{number}"}) for number in range(200)]
        for at in range(0, 200, 8):
            await asyncio.gather(*answers[at : at + 8])
        await h.at_rest()
        assert 20 <= len(h.decode[1].calls) + copies(h, "full") <= 60


async def test_a_router_that_ends_waits_for_no_copy(open_house: OpenHouse) -> None:
    async with open_house(decode=pair(hang), versions=SPLIT) as h:
        await begin(h)
        assert (await h.chat()).status_code == 200
        await until(lambda: h.decode[1].calls)
        async with asyncio.timeout(h.router.settings.grace / 2):
            await h.router.drain()
        await until(lambda: h.decode[1].calls[0].cancelled.is_set())
