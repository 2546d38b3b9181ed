"""Which worker gets a call: pairs of one revision, fewest calls first, equals in turn, and only what is ready."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.inference_service import RoutingSpec
from tandem_api.topology import RevisionEndpoints, ServiceRoutes, Topology, VersionRoutes, WorkerEndpoint
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.failures import CallFailed
from tandem_router.scheduling.pairing import Demand, Grant, NoWorker, Pairing, Revision
from tandem_router.scheduling.policies import policy
from tandem_router.scheduling.prefixes import PIECE, PrefixIndex
from tandem_router.scheduling.queueing import Queue, Room
from tandem_router.scheduling.worker import Worker

from tests.router.fake_worker import fail_with, hang
from tests.router.house import CHAT, MODEL, STREAM, OpenHouse, fake, until


@dataclass
class Stand:
    load: int
    turn: int


def test_least_loaded_takes_the_fewest_calls_and_equals_in_turn() -> None:
    choose = policy("leastLoaded")
    assert choose([Stand(2, 0), Stand(1, 9), Stand(1, 5)]) == Stand(1, 5)


def test_round_robin_takes_who_waited_longest_whatever_the_load() -> None:
    assert policy("roundRobin")([Stand(0, 3), Stand(9, 1), Stand(0, 2)]) == Stand(9, 1)


def worker(name: str, role: str, *, running: int = 2, ready: bool = True, clock: Callable[[], float] = float) -> Worker:
    """One without a session of its own, told what a link would tell it."""
    identity = pb.Identity(name=name, revision="r1")
    endpoint = WorkerEndpoint(name=name, role=role, address="127.0.0.1:1")  # type: ignore[arg-type]
    made = Worker(endpoint, identity, router="r", tls=None, clock=clock, changed=lambda: None)
    made.greeted(pb.Hello(limits=pb.Limits(max_running=running)))
    made.link.connected = True
    made.loaded(pb.Load(ready=ready))
    return made


def pairing(disaggregate_from: int = 0) -> Pairing:
    return Pairing(policy("leastLoaded"), disaggregate_from, itertools.count(1).__next__)


def revision(name: str, prefill: int, decode: int, running: int = 2) -> Revision:
    return Revision(
        name,
        prefill > 0,
        [worker(f"{name}-p{n}", "prefill", running=running) for n in range(prefill)],
        [worker(f"{name}-d{n}", "decode", running=running) for n in range(decode)],
    )


async def take_all(made: Pairing, revisions: Sequence[Revision]) -> list[Grant]:
    grants = []
    while (grant := made.take(revisions, Demand())) is not None:
        grants.append(grant)
    return grants


async def test_a_call_counts_from_the_moment_it_is_placed() -> None:
    one = revision("r", 2, 2, running=4)
    grants = [pairing().take([one], Demand()) for _ in range(4)]
    assert [w.placed for w in (*one.prefill, *one.decode)] == [2, 2, 2, 2]
    for grant in grants:
        assert grant is not None
        grant.close()
    assert [w.placed for w in (*one.prefill, *one.decode)] == [0, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=4))
def test_pairs_are_of_one_revision_and_no_place_is_taken_twice(shapes: list[tuple[int, int, int]]) -> None:
    async def check() -> None:
        revisions = [revision(f"r{n}", *shape) for n, shape in enumerate(shapes)]
        grants = await take_all(pairing(), revisions)
        for grant in grants:
            assert grant.decode is not None
            assert grant.decode.worker in grant.revision.decode
            assert (grant.prefill is not None) == grant.revision.disaggregated
            assert grant.prefill is None or grant.prefill.worker in grant.revision.prefill
        taken = Counter(p.worker.name for g in grants for p in (g.decode, g.prefill) if p is not None)
        assert all(count <= w.capacity for r in revisions for w in (*r.prefill, *r.decode)
                   for count in [taken[w.name]])  # fmt: skip
        # Nothing that fits is left: of each revision, prefill or decode is full.
        for r in revisions:
            assert all(w.full for w in r.decode) or (r.prefill and all(w.full for w in r.prefill))

    asyncio.run(check())


async def test_a_revision_without_decode_or_prefill_ready_is_left_out() -> None:
    broken, sound = revision("a", 1, 1), revision("b", 1, 1)
    broken.prefill[0].loaded(pb.Load(ready=False))
    grant = pairing().take([broken, sound], Demand())
    assert grant is not None
    assert grant.revision is sound


async def test_nothing_begins_on_a_revision_without_traffic_but_what_holds_something_of_it_goes_on() -> None:
    closed, open_one = revision("a", 0, 2), revision("b", 0, 1, running=1)
    closed.traffic = False
    begun = pairing().take([closed, open_one], Demand())
    assert begun is not None
    assert begun.revision is open_one
    # Full is full: it does not fall back to the closed one.
    assert pairing().take([closed, open_one], Demand()) is None
    bound = pairing().take([closed, open_one], Demand(revision=closed))
    assert bound is not None
    assert bound.revision is closed
    with pytest.raises(NoWorker):
        pairing().take([closed], Demand())


async def test_nothing_ready_says_so_and_nothing_free_waits() -> None:
    one = revision("r", 0, 1, running=1)
    assert pairing().take([one], Demand()) is not None
    assert pairing().take([one], Demand()) is None
    one.decode[0].loaded(pb.Load(ready=False))
    with pytest.raises(NoWorker):
        pairing().take([one], Demand())


async def test_other_routers_calls_count_as_load() -> None:
    one = revision("r", 0, 2)
    one.decode[0].loaded(pb.Load(ready=True, open_calls=1))
    grant = pairing().take([one], Demand())
    assert grant is not None
    assert grant.decode is not None
    assert grant.decode.worker is one.decode[1]


async def test_a_router_gets_its_part_of_the_places_however_many_others_have() -> None:
    one = revision("r", 0, 1, running=5)
    one.decode[0].loaded(pb.Load(ready=True, open_calls=5, routers=2))
    assert [pairing().take([one], Demand()) is not None for _ in range(3)] == [True, True, False]


async def test_a_router_among_more_than_there_are_places_gets_one() -> None:
    one = revision("r", 0, 1, running=2)
    one.decode[0].loaded(pb.Load(ready=True, open_calls=2, routers=5))
    assert [pairing().take([one], Demand()) is not None for _ in range(2)] == [True, False]


async def test_where_the_worker_does_not_count_routers_others_take_all_places() -> None:
    one = revision("r", 0, 1, running=2)
    one.decode[0].loaded(pb.Load(ready=True, open_calls=2))
    assert pairing().take([one], Demand()) is None


async def test_a_short_uncached_prompt_runs_at_decode_alone() -> None:
    one = revision("r", 1, 1, running=9)
    made = pairing(disaggregate_from=100)
    short = made.take([one], Demand(prompt=b"x" * 396))
    long = made.take([one], Demand(prompt=b"x" * 400))
    assert short is not None
    assert long is not None
    assert (short.prefill, short.whole_reason) == (None, "short")
    assert long.prefill is not None
    # What is cached at the decode worker needs no prefill.
    one.decode[0].prefixes.add(b"x" * 400)
    cached = made.take([one], Demand(prompt=b"x" * 400 + b"y" * 40))
    assert cached is not None
    assert cached.whole_reason == "short"


async def test_a_short_request_goes_to_a_decode_worker_alone_and_is_counted(open_house: OpenHouse) -> None:
    long = {**CHAT, "messages": [{"role": "user", "content": "Hello? " * 200}]}
    routing = RoutingSpec(disaggregate_from=100)
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")], routing=routing) as h:
        assert (await h.chat()).status_code == 200
        assert not h.prefill[0].calls
        assert h.decode[0].calls[0].submit.whole_reason == "short"
        name = 'tandem_router_kv_outcomes_total{outcome="whole",reason="short",service="default/m",version="v1"}'
        assert await h.metric(name) == 1
        assert (await h.chat(long)).status_code == 200
        assert len(h.prefill[0].calls) == 1
        assert h.decode[0].calls[1].submit.HasField("kv")


def test_the_prefix_index_knows_common_beginnings_and_stays_bounded() -> None:
    index = PrefixIndex(capacity=8)
    index.add(b"a" * PIECE * 4)
    assert index.match(b"a" * PIECE * 2 + b"b" * PIECE) == 2 * PIECE
    assert index.match(b"b" + b"a" * PIECE * 4) == 0
    for number in range(100):
        index.add(bytes([number]) * PIECE * 3)
    assert len(index) == 8


async def test_calls_are_spread_over_equal_workers(open_house: OpenHouse) -> None:
    decode = [fake("decode", f"d{n}") for n in range(3)]
    async with open_house([fake("prefill", f"p{n}") for n in range(2)], decode) as h:
        for _ in range(6):
            await h.chat()
        assert [len(w.calls) for w in decode] == [2, 2, 2]
        assert [len(w.calls) for w in h.prefill] == [3, 3]


async def test_a_worker_that_fails_in_a_row_rests_as_long_as_there_is_another(
    open_house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_router.scheduling.worker.EJECT_SECONDS", 1000.0)
    monkeypatch.setattr("tandem_router.scheduling.worker.LONGEST_EJECTION", 1000.0)
    bad, good = fake("decode", "bad", fail_with(pb.INTERNAL)), fake("decode", "good")
    async with open_house(decode=[bad, good]) as h:
        for _ in range(20):
            assert (await h.chat()).status_code == 200
        assert len(bad.calls) <= 5
        assert next(w for w in h.router.fleet.workers if w.name == "bad").ejected


async def test_the_only_worker_is_not_ejected(open_house: OpenHouse) -> None:
    only = fake("decode", "d0", fail_with(pb.INTERNAL))
    async with open_house(decode=[only]) as h:
        for _ in range(5):
            assert (await h.chat()).status_code == 500
        only.script = fake("decode", "d0").script
        assert (await h.chat()).status_code == 200


@pytest.mark.parametrize(
    ("sticky", "as_user"),
    [
        ({"user": True}, lambda user: {"body": {**CHAT, "user": user}}),
        ({"header": "X-User"}, lambda user: {"headers": {"x-user": user}}),
        ({"api_key": True}, lambda user: {"headers": {"authorization": f"Bearer {user}"}}),
        ({"api_key": True}, lambda user: {"headers": {"x-api-key": user}}),
    ],
    ids=["user", "header", "bearer", "x-api-key"],
)
async def test_two_versions_share_by_weight_and_a_client_keeps_its_own(
    open_house: OpenHouse, sticky: dict[str, object], as_user: Callable[[str], dict[str, Any]]
) -> None:
    routing = RoutingSpec.model_validate({"sticky_by": sticky})
    decode = [fake("decode", "d1", version="v1"), fake("decode", "d2", version="v2")]
    async with open_house(decode=decode, routing=routing, versions=(("v1", 50), ("v2", 50))) as h:
        for user in ("ann", "bob", "cid", "dan", "eve", "fay"):
            before = [len(w.calls) for w in decode]
            for _ in range(3):
                await h.chat(**as_user(user))
            assert sorted(len(w.calls) - n for w, n in zip(decode, before, strict=True)) == [0, 3]
        assert all(w.calls for w in decode)


async def test_an_unready_versions_users_are_served_by_the_other(open_house: OpenHouse) -> None:
    decode = [fake("decode", "d1", version="v1"), fake("decode", "d2", version="v2")]
    async with open_house(decode=decode, versions=(("v1", 50), ("v2", 50))) as h:
        decode[1].report(ready=False)
        await h.workers_ready(1)
        assert {(await h.chat()).status_code for _ in range(10)} == {200}
        assert len(decode[0].calls) == 10
        versions = (await h.http.get("/tandem/v1/status")).json()["services"][0]["versions"]
        assert [v["effectiveWeight"] for v in versions] == [100, 0]


async def test_a_pod_at_a_reused_address_is_not_taken_for_another(open_house: OpenHouse) -> None:
    stranger = fake("decode", "stranger")
    async with open_house(decode=[fake("decode", "d0")]) as h, stranger.serving():
        endpoint = WorkerEndpoint(name="d1", role="decode", address=stranger.endpoint.address)
        revisions = (RevisionEndpoints(name="v1-r1", disaggregated=False, workers=(endpoint,)),)
        versions = (VersionRoutes(name="v1", weight=100, revisions=revisions),)
        routing = RoutingSpec()
        service = ServiceRoutes(name="m", namespace="default", model=MODEL, routing=routing, versions=versions)
        h.write_topology(Topology(services=(service,)))
        await h.until(lambda: any("stranger" in w.link.trouble for w in h.router.fleet.workers))
        assert (await h.chat()).status_code == 503
        assert not stranger.calls


async def test_the_status_shows_what_the_router_acts_on(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", hang)]) as h:
        task = asyncio.create_task(h.chat(STREAM))
        await h.until(lambda: h.decode[0].open)
        h.decode[0].report(running=1, open_calls=1, free_blocks=75)
        await h.until(lambda: any(w.report.running for w in h.router.fleet.workers))
        status = (await h.http.get("/tandem/v1/status")).json()
        decode = status["services"][0]["versions"][0]["workers"][1]
        assert (decode["name"], decode["running"], decode["kvUse"]) == ("d0", 1, 0.25)
        task.cancel()
        await asyncio.wait([task])


async def test_a_place_granted_in_the_turn_of_its_waiters_cancel_is_given_back() -> None:
    one = revision("r", 0, 1, running=1)
    queue = Queue(pairing(), lambda: [one], Room(9), RoutingSpec())
    first = await queue.take(Demand())
    waiting = asyncio.create_task(queue.take(Demand()))
    await asyncio.sleep(0)
    first.close()
    queue.pump()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert (one.decode[0].placed, queue.room.taken, len(queue)) == (0, 0, 0)


async def test_a_retry_bound_to_a_revision_holds_up_nobody_elsewhere() -> None:
    """A call that lost its prefill waits at revision a. Its last prefill worker dies; revision b is idle."""
    a, b = revision("a", 1, 1, running=1), revision("b", 1, 1, running=1)
    made = pairing()
    for one in (a, b):
        at_b = made.take([one], Demand())
    assert at_b is not None
    queue = Queue(made, lambda: [a, b], Room(8), RoutingSpec())
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        bound = tasks.create_task(refused(queue.take(Demand(decode=False, revision=a), again=True)))
        other = tasks.create_task(queue.take(Demand()))
        await until(lambda: len(queue) == 2)
        at_b.close()
        queue.pump()
        # The retry waits, who came after it does not.
        (await other).close()
        held = await queue.take(Demand())
        assert held.revision is b
        assert not bound.done()
        other = tasks.create_task(queue.take(Demand()))
        await until(lambda: len(queue) == 2)
        a.prefill[0].lost()
        queue.pump()
        assert await bound
        held.close()
        queue.pump()
        assert (await other).revision is b
    assert (len(queue), queue.room.taken) == (0, 0)


async def refused(taking: Coroutine[object, object, Grant]) -> bool:
    with pytest.raises(NoWorker):
        await taking
    return True


async def test_a_worker_that_refuses_again_and_again_is_asked_ever_less_often() -> None:
    now = 100.0
    full = worker("d0", "decode", clock=lambda: now)
    pauses = []
    for _ in range(6):
        full.failed(CallFailed(pb.OVERLOADED, "full"))
        # One that was under way at the same time says the same once more.
        full.failed(CallFailed(pb.OVERLOADED, "full"))
        began = now
        while full.full:
            now += 0.01
        pauses.append(round(now - began, 1))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 1.6]
    full.succeeded()
    full.failed(CallFailed(pb.OVERLOADED, "full"))
    now += 0.11
    assert not full.full
