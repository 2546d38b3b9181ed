"""What a request leaves behind, which is nothing: not for good, and not for the garbage collector either.

What refers to itself lives until a collection, and what lives through two of them until a full one, which comes once in
many thousand requests. So objects are counted while nothing is collected.
"""

import asyncio
import gc
import json
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from tandem_api.inference_service import RoutingSpec
from tandem_api.registry import KeyLimits
from tandem_api.topology import ExperimentRoutes, RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.access.settings import AccessSettings
from tandem_router.discovery.assembling import Cluster
from tandem_router.discovery.objects import EndpointSlice, InferenceService, Meta, Spec
from tandem_router.endpoints.feedback import Feedback
from tandem_router.experiments.quantiles import BLOCKS, EVERY, RunningQuantile
from tandem_router.ids import Origin, ResponseIds
from tandem_router.limits.settings import LimitSettings
from tandem_router.telemetry import measures
from tandem_router.virtual.settings import VirtualSettings

from tests.holdings import grown_by_nothing, holdings
from tests.router.fake_worker import FakeCall, decode_well, fail_with, hang, words
from tests.router.house import CHAT, STREAM, House, OpenHouse, fake, topology_of

ROUNDS = 3

Way = Callable[[House], Awaitable[object]]


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Nothing is collected by the way."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> Counter[str]:
    """Objects of the router's and of its server's, by type."""
    kinds = Counter(type(thing) for thing in gc.get_objects())
    return Counter(
        {
            f"{kind.__module__}.{kind.__qualname__}": count
            for kind, count in kinds.items()
            if str(kind.__module__).startswith(("tandem_router", "uvicorn"))
        }
    )


async def leaves_nothing(h: House, way: Way) -> None:
    """Some requests of a kind, after a first one. The end of a connection may take a moment."""
    await way(h)
    await h.at_rest()
    before = alive()
    for _ in range(ROUNDS):
        await way(h)
    try:
        await h.until(lambda: not alive() - before)
    except TimeoutError:
        raise AssertionError(f"left behind: {alive() - before}") from None


def asks(body: dict[str, Any], path: str = "/v1/chat/completions", **options: Any) -> Way:
    return lambda h: h.http.post(path, json=body, **options)


async def comes_anew(h: House) -> None:
    """A client without keep-alive."""
    async with httpx.AsyncClient(base_url=h.url, verify=False, timeout=60) as client:
        await client.post("/v1/chat/completions", json=STREAM)


async def comes_in_pieces(h: House) -> None:
    async def pieces() -> Any:
        for piece in (b'{"model":', b'"org/m"}'):
            yield piece
            await asyncio.sleep(0)

    assert (await h.http.post("/v1/chat/completions", content=pieces())).status_code == 200


async def leaves(h: House) -> None:
    """A client that goes away in the midst of its stream."""
    async with (
        httpx.AsyncClient(base_url=h.url, verify=False, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=STREAM) as answer,
    ):
        await anext(answer.aiter_bytes())
    await h.until(lambda: not h.router.open)


async def resets(h: House) -> None:
    """A client that keeps its connection, and ends it by a reset."""
    body = json.dumps(CHAT).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    await writer.wait_closed()


async def begin_and_hang(call: FakeCall) -> None:
    call.started()
    call.data(*words("Hel"))
    await hang(call)


async def begin_and_fail(call: FakeCall) -> None:
    call.started()
    call.data(*words("Hel"))
    call.failed(pb.INTERNAL)


def refuses_each_first() -> Callable[[FakeCall], Awaitable[None]]:
    """A worker that fails every second call."""
    calls = 0

    async def script(call: FakeCall) -> None:
        nonlocal calls
        calls += 1
        await (decode_well(call) if calls % 2 == 0 else fail_with(pb.KV_GONE)(call))

    return script


HALVES = (("v1", 50), ("v2", 50))
EXPERIMENT = ExperimentRoutes.model_validate(
    {
        "id": "e1",
        "champion": "v1",
        "challenger": "v2",
        "decide": [{"metric": "errorRate"}, {"metric": "ttft"}, {"metric": "score"}],
    }
)
KEYS = AccessSettings(static="no digest")
LIMITED = LimitSettings(address=KeyLimits(requests_per_minute=1))


@pytest.mark.parametrize(
    ("way", "script", "settings"),
    [
        pytest.param(asks(CHAT), decode_well, {}, id="whole"),
        pytest.param(asks(STREAM), decode_well, {}, id="stream"),
        pytest.param(comes_in_pieces, decode_well, {}, id="a body in pieces"),
        pytest.param(comes_anew, decode_well, {}, id="a connection each"),
        pytest.param(resets, decode_well, {}, id="a connection reset"),
        pytest.param(leaves, begin_and_hang, {}, id="a client that leaves"),
        pytest.param(asks({**CHAT, "model": "nobody's"}), decode_well, {}, id="an unknown model"),
        pytest.param(asks({}), decode_well, {}, id="a bad body"),
        pytest.param(asks(CHAT), decode_well, {"access": KEYS}, id="no key"),
        pytest.param(asks(CHAT), decode_well, {"limits": LIMITED}, id="over a limit"),
        pytest.param(asks(CHAT), refuses_each_first(), {}, id="tried again"),
        pytest.param(asks(CHAT), fail_with(pb.INVALID_REQUEST), {}, id="failed by a worker"),
        pytest.param(asks(CHAT), fail_with(pb.KV_GONE), {}, id="failed by all workers"),
        pytest.param(asks(STREAM), begin_and_fail, {}, id="failed midway"),
        pytest.param(asks(STREAM), begin_and_hang, {"routing": RoutingSpec(request_timeout=1.5)}, id="out of time"),
        pytest.param(
            asks({**CHAT, "model": "echo"}, "/virtual/openai/v1/chat/completions"),
            decode_well,
            {"virtual": VirtualSettings()},
            id="a virtual model",
        ),
    ],
)
async def test_a_request_leaves_no_object_behind(
    open_house: OpenHouse, uncollected: None, way: Way, script: Any, settings: dict[str, Any]
) -> None:
    decode = [fake("decode", f"d{n}", script) for n in range(2)]
    async with open_house([fake("prefill", "p0")], decode, **settings) as h:
        await leaves_nothing(h, way)


async def test_versions_and_workers_that_are_gone_leave_nothing(
    open_house: OpenHouse, uncollected: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "FORMER", 2)
    worker = fake("decode", "d0")
    async with open_house(decode=[worker]) as h:
        worker.identity.Clear()  # it takes any name for its own

        async def serve(name: str) -> None:
            endpoint = worker.endpoint.model_copy(update={"name": name})
            revision = RevisionEndpoints(name=name, disaggregated=False, workers=(endpoint,))
            version = VersionRoutes(name=name, weight=100, revisions=(revision,))
            service = ServiceRoutes(name=name, namespace="ns", model=name, routing=RoutingSpec(), versions=(version,))
            h.write_topology(Topology(services=(service,)))
            await h.until(lambda: name in h.router.fleet.services)
            await h.workers_ready(1)
            assert (await h.chat({**CHAT, "model": name})).status_code == 200

        async def come_and_go(h: House) -> None:
            for number in range(4):
                await serve(f"v{number}")

        await come_and_go(h)
        await leaves_nothing(h, come_and_go)
        assert len(h.router.measures.versions) == 3


def test_services_and_slices_that_are_gone_leave_nothing_in_what_is_known_of_the_cluster() -> None:
    cluster = Cluster(lambda: None)

    def come_and_go(name: str) -> None:
        labels = {"tandem.dev/service": name}
        resource = InferenceService(Meta(name=name, namespace="ns"), Spec(routing=msgspec.Raw(b"{}")))
        endpoints = EndpointSlice(Meta(name=f"{name}-1", namespace="ns", labels=labels))
        cluster.services.changed(resource)
        cluster.slices.changed(endpoints)
        assert [service.name for service in cluster.topology().services] == [name]
        cluster.slices.deleted(endpoints)
        cluster.services.deleted(resource)
        assert not cluster.topology().services

    come_and_go("first")
    before = holdings("tandem_router")
    for number in range(1000):
        come_and_go(f"service-{number}")
    assert not holdings("tandem_router") - before


async def test_a_router_holds_no_more_for_clients_that_it_has_not_seen(open_house: OpenHouse) -> None:
    """But what is named here, each of which has a bound and a test of its own."""
    bounded = {
        "Buckets._held",
        "Feedback._scores",
        "PrefixIndex._seen",
        "RunningQuantile._stretch",
        "_Tally.first",
        "_Tally.bad",
    }
    routing = RoutingSpec.model_validate({"stickyBy": {"user": True}, "disaggregateFrom": 1})
    proxies = LimitSettings(address=KeyLimits(requests_per_minute=1), trusted_proxies=(ip_network("127.0.0.0/8"),))
    workers = [fake("decode", "d1"), fake("decode", "d2", version="v2")]
    async with open_house(decode=workers, versions=HALVES, routing=routing, limits=proxies) as h:
        (service,) = topology_of(workers, routing, HALVES).services
        h.write_topology(Topology(services=(service.model_copy(update={"experiment": EXPERIMENT}),)))
        await h.until(lambda: h.router.fleet.services["org/m"].counting is not None)

        async def clients_come(numbers: range) -> None:
            for number in numbers:
                who = f"client-{number}"
                headers = {
                    "x-forwarded-for": f"198.51.100.{number}",
                    "x-request-id": who,
                    "authorization": f"Bearer {who}",
                    "traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01",
                }
                body = {**CHAT, "user": who, "messages": [{"role": "user", "content": f"I am {who}. " * 40}]}
                answer = await h.chat({**body, "stream": number % 2 == 0}, headers=headers)
                assert answer.status_code == 200
                if number % 2:
                    scored = {"id": answer.json()["id"], "score": number / 100}
                    assert (await h.http.post("/v1/feedback", json=scored)).status_code == 200
                assert (await h.chat(body, headers=headers)).status_code == 429
                assert (await h.http.get(f"/{who}", headers=headers)).status_code == 404
                assert (await h.http.get(f"/v1/models/{who}")).status_code == 404

        await clients_come(range(10))
        await h.at_rest()
        before = holdings("tandem_router")
        await clients_come(range(10, 30))
        await grown_by_nothing("tandem_router", before, bounded)
        assert {name for name in bounded if holdings("tandem_router")[name] > before[name]} >= {
            "Buckets._held",
            "Feedback._scores",
            "PrefixIndex._seen",
            "_Tally.first",
        }


def test_of_scores_and_of_values_the_latest_are_kept() -> None:
    ids = ResponseIds(b"key", os.urandom)
    service = SimpleNamespace(full_name="ns/m", counting=None)
    scores = Feedback(ids, SimpleNamespace(services={"m": service}), measures.RouterMeasures(time.monotonic), 8)
    quantile = RunningQuantile(0.9)
    before = holdings("tandem_router")
    for number in range(20):
        id = ids.issue("chatcmpl-", Origin("ns/m", "v1"))
        scores.take(json.dumps({"id": id, "score": number / 20}).encode())
    for number in range(10_000):
        quantile.add(float(number))
    grown = holdings("tandem_router") - before
    assert grown["Feedback._scores"] == 8
    assert grown["RunningQuantile._past"] == BLOCKS + BLOCKS * EVERY
    assert grown["RunningQuantile._stretch"] < EVERY
