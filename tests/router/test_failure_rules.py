"""What becomes of a request when a worker fails it, at every stage. Each house ends with all given back."""

import asyncio
import itertools
import json
from typing import Any, Self

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_api.inference_service import RoutingSpec
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.frontends.clients import whole_events
from tandem_router.telemetry.tracing import NO_CONTEXT, NoTracer

from tests.router.fake_worker import FakeCall, FakeWorker, Script, decode_well, fail_with, hang, prefill_well, words
from tests.router.house import CHAT, STREAM, House, OpenHouse, fake

DEADLINE = 4
"""Seconds: within them a call is to have begun, and after them its failure is waited for."""


def first_fails(script: Script, then: Script) -> Script:
    """One script for the first call, whichever worker gets it, another for all others."""
    left = [script]

    async def either(call: FakeCall) -> None:
        await (left.pop() if left else then)(call)

    return either


async def lose_session(call: FakeCall) -> None:
    """The worker dies with the call."""
    call.worker.drop_sessions()


async def begin_then(call: FakeCall, end: Script) -> None:
    call.started()
    call.data(*words("Hel"))
    await end(call)


def events(text: str) -> list[str]:
    return [line.removeprefix("data: ") for line in text.split("\n\n") if line]


RETRIED = pytest.mark.parametrize(
    "failure",
    [fail_with(pb.UNAVAILABLE), fail_with(pb.INTERNAL), fail_with(pb.OVERLOADED), lose_session],
    ids=["unavailable", "internal", "overloaded", "session lost"],
)


@RETRIED
async def test_a_failed_prefill_is_tried_at_another_worker(open_house: OpenHouse, failure: Script) -> None:
    script = first_fails(failure, prefill_well)
    prefill = [fake("prefill", f"p{n}", script) for n in range(2)]
    async with open_house(prefill, [fake("decode", "d0")]) as h:
        assert (await h.chat(STREAM)).status_code == 200
        assert len(h.decode[0].calls) == 1
        assert h.decode[0].calls[0].submit.HasField("kv")


@RETRIED
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
async def test_a_decode_that_fails_before_its_first_byte_is_tried_elsewhere_with_kv_handed_on(
    open_house: OpenHouse, failure: Script, body: dict[str, object]
) -> None:
    script = first_fails(failure, decode_well)
    decode = [fake("decode", f"d{n}", script) for n in range(2)]
    async with open_house([fake("prefill", "p0")], decode) as h:
        answer = await h.chat(body)
        assert answer.status_code == 200
        assert "world" in answer.text
        # The KV was computed once, and the first worker's bits are void.
        assert len(h.prefill[0].calls) == 1
        first, second = sorted((c for w in decode for c in w.calls), key=lambda c: c.submit.kv.lease)
        assert h.prefill[0].handed_on == [first.submit.kv.lease]
        assert second.submit.kv.lease != first.submit.kv.lease


async def test_a_decode_that_started_but_sent_nothing_is_tried_elsewhere(open_house: OpenHouse) -> None:
    async def start_and_fail(call: FakeCall) -> None:
        call.started()
        call.failed(pb.UNAVAILABLE)

    script = first_fails(start_and_fail, decode_well)
    async with open_house([fake("prefill", "p0")], [fake("decode", f"d{n}", script) for n in range(2)]) as h:
        assert events((await h.chat(STREAM)).text)[-1] == "[DONE]"


async def test_half_a_whole_answer_never_reaches_the_client(open_house: OpenHouse) -> None:
    async def half(call: FakeCall) -> None:
        call.started(content_bytes=1000)
        call.data(b'{"half":')
        call.failed(pb.INTERNAL)

    script = first_fails(half, decode_well)
    async with open_house(decode=[fake("decode", f"d{n}", script) for n in range(2)]) as h:
        assert (await h.chat()).json()["choices"][0]["message"]["content"] == "Hello world"


async def test_kv_that_is_gone_is_computed_again(open_house: OpenHouse) -> None:
    script = first_fails(fail_with(pb.UNAVAILABLE), decode_well)
    async with open_house([fake("prefill", "p0")], [fake("decode", f"d{n}", script) for n in range(2)]) as h:
        h.prefill[0].hand_on_fails = True
        assert (await h.chat(STREAM)).status_code == 200
        assert len(h.prefill[0].calls) == 2
        # The fake keeps the lease that it refused to hand on; a holder's TTL would end it.
        h.prefill[0].leases.clear()


async def test_a_failure_after_the_first_byte_is_a_typed_event_and_not_tried_again(open_house: OpenHouse) -> None:
    async def fail_late(call: FakeCall) -> None:
        await begin_then(call, fail_with(pb.INTERNAL, "the engine died"))

    async with open_house([fake("prefill", "p0")], [fake("decode", f"d{n}", fail_late) for n in range(2)]) as h:
        answer = await h.chat(STREAM)
        assert answer.status_code == 200
        *_, error, done = events(answer.text)
        assert json.loads(error)["error"] == {
            "message": "the engine died", "type": "server_error", "param": None, "code": "internal_error",
        }  # fmt: skip
        assert done == "[DONE]"
        assert sum(len(w.calls) for w in h.decode) == 1


async def test_a_session_lost_after_the_first_byte_is_a_typed_event(open_house: OpenHouse) -> None:
    async def die_late(call: FakeCall) -> None:
        await begin_then(call, lose_session)

    async with open_house(decode=[fake("decode", "d0", die_late)]) as h:
        with pytest.raises(openai.APIError, match="connection to the model's worker was lost"):
            async for _ in await h.openai().chat.completions.create(**STREAM):
                pass


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_clients_own_mistake_is_told_at_once_and_counts_against_no_worker(
    open_house: OpenHouse, role: str
) -> None:
    refuse = fail_with(pb.INVALID_REQUEST, "messages must not be empty", param="messages")
    prefill = [fake("prefill", f"p{n}", refuse if role == "prefill" else prefill_well) for n in range(2)]
    decode = [fake("decode", f"d{n}", refuse) for n in range(2)]
    async with open_house(prefill, decode) as h:
        for attempt in range(10):
            answer = await h.chat()
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
            assert sum(len(w.calls) for w in (prefill if role == "prefill" else decode)) == attempt + 1
        assert not any(worker.ejected for worker in h.router.fleet.workers)


async def test_a_kv_mismatch_is_an_error_and_never_an_answer(open_house: OpenHouse) -> None:
    script = first_fails(fail_with(pb.KV_MISMATCH, "the KV is of another prompt"), decode_well)
    async with open_house([fake("prefill", "p0")], [fake("decode", f"d{n}", script) for n in range(2)]) as h:
        answer = await h.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "kv_mismatch")


async def test_when_no_worker_is_left_the_last_failure_is_told(open_house: OpenHouse) -> None:
    decode = [fake("decode", f"d{n}", fail_with(pb.UNAVAILABLE, "draining")) for n in range(2)]
    async with open_house([fake("prefill", "p0")], decode) as h:
        answer = await h.chat(STREAM)
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "draining")
        assert int(answer.headers["retry-after"]) > 0
        assert [len(w.calls) for w in decode] == [1, 1]


async def test_a_request_that_a_transfer_cant_carry_runs_whole_at_decode(open_house: OpenHouse) -> None:
    async def cant(call: FakeCall) -> None:
        call.finished(whole_reason="echo")

    async with open_house([fake("prefill", "p0", cant)], [fake("decode", "d0")]) as h:
        assert (await h.chat()).status_code == 200
        assert h.decode[0].calls[0].submit.whole_reason == "echo"
        name = 'tandem_router_kv_outcomes_total{outcome="whole",reason="echo",service="default/m",version="v1"}'
        assert await h.metric(name) == 1


async def test_a_service_without_prefill_runs_at_decode_alone(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        assert (await h.chat()).status_code == 200
        assert h.decode[0].calls[0].submit.whole_reason == "aggregated"


async def test_the_deadline_is_a_504_and_cancels_the_worker(open_house: OpenHouse) -> None:
    routing = RoutingSpec(request_timeout=DEADLINE)
    async with open_house([fake("prefill", "p0", hang)], [fake("decode", "d0")], routing=routing) as h:
        answer = await h.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        await h.until(lambda: h.prefill[0].calls[0].cancelled.is_set())
        assert 0 < h.prefill[0].calls[0].submit.time_left_ms <= DEADLINE * 1000


async def test_the_deadline_of_a_stream_is_a_typed_event(open_house: OpenHouse) -> None:
    async def never_end(call: FakeCall) -> None:
        await begin_then(call, hang)

    routing = RoutingSpec(request_timeout=DEADLINE)
    async with open_house(decode=[fake("decode", "d0", never_end)], routing=routing) as h:
        *_, error, done = events((await h.chat(STREAM)).text)
        assert json.loads(error)["error"]["code"] == "deadline_exceeded"
        assert done == "[DONE]"


async def leave(h: House, worker: FakeWorker) -> None:
    """A client that sends a request and goes away while a worker has its call."""
    async with httpx.AsyncClient(base_url=h.url, timeout=60) as client:
        sending = asyncio.create_task(client.post("/v1/chat/completions", json=STREAM))
        await h.until(lambda: worker.open)
        sending.cancel()
        await asyncio.wait([sending])


async def test_a_client_that_leaves_during_prefill_cancels_it(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0", hang)], [fake("decode", "d0")]) as h:
        await leave(h, h.prefill[0])
        await h.until(lambda: h.prefill[0].calls[0].cancelled.is_set())
        assert not h.decode[0].calls


async def test_a_client_that_leaves_during_decode_cancels_it_and_releases_the_lease(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", hang)]) as h:
        await leave(h, h.decode[0])
        await h.until(lambda: h.decode[0].calls[0].cancelled.is_set())
        await h.until(lambda: not h.prefill[0].leases)


async def test_a_lease_that_arrives_after_the_client_left_is_released(open_house: OpenHouse) -> None:
    async def finish_anyway(call: FakeCall) -> None:
        await call.cancelled.wait()
        await prefill_well(call)

    async with open_house([fake("prefill", "p0", finish_anyway)], [fake("decode", "d0")]) as h:
        await leave(h, h.prefill[0])
        await h.until(lambda: bool(h.prefill[0].calls))
        await h.until(lambda: h.prefill[0].calls[0].cancelled.is_set() and not h.prefill[0].leases)


async def test_the_lease_is_released_at_the_first_byte(open_house: OpenHouse) -> None:
    async def wait_for_release(call: FakeCall) -> None:
        call.started()
        call.data(*words("Hel"))
        await h.until(lambda: not h.prefill[0].leases)
        call.data(b"data: [DONE]\n\n")
        call.finished()

    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", wait_for_release)]) as h:
        assert events((await h.chat(STREAM)).text)[-1] == "[DONE]"


async def test_the_prefill_place_is_free_while_decode_runs(open_house: OpenHouse) -> None:
    prefill = fake("prefill", "p0", max_running=1)
    async with open_house([prefill], [fake("decode", "d0", hang)], routing=RoutingSpec(request_timeout=30)) as h:
        asking = [asyncio.create_task(h.chat(STREAM)) for _ in range(3)]
        await h.until(lambda: len(h.decode[0].open) == 3)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


HALF = b'data: {"choices":[{"index":0,"delta":{"content":"Hel'
"""A worker cuts events that are large, wherever it may be."""


SERVERS = pytest.mark.parametrize("http", [None, "h11"], ids=["direct", "plain asgi"])


@SERVERS
@pytest.mark.parametrize("before", [(), words("Hi")], ids=["first", "later"])
@pytest.mark.parametrize(
    "end", [lose_session, fail_with(pb.INTERNAL), hang], ids=["session lost", "failed", "deadline"]
)
async def test_half_an_event_never_reaches_the_client(
    open_house: OpenHouse, end: Script, before: tuple[bytes, ...], http: str | None
) -> None:
    async def half(call: FakeCall) -> None:
        call.started()
        call.data(*before, HALF)
        await end(call)

    routing = RoutingSpec(request_timeout=DEADLINE if end is hang else 60)
    async with open_house(decode=[fake("decode", "d0", half)], http=http, routing=routing) as h:
        *first, error, done = events((await h.chat(STREAM)).text)
        assert len(first) == len(before)
        assert json.loads(error)["error"]["message"]
        assert done == "[DONE]"


@given(st.lists(st.integers(0, 2**30), max_size=12))
def test_pieces_of_events_make_the_same_stream(cuts: list[int]) -> None:
    whole = b"".join((*words("Hello", " world", "!"), b"data: [DONE]\n\n"))
    at = sorted({cut % len(whole) for cut in cuts} | {0, len(whole)})
    held = bytearray()
    came = [whole_events(held, whole[a:b]) for a, b in itertools.pairwise(at)]
    assert b"".join(came) == whole
    assert all(not chunk or chunk.endswith(b"\n\n") for chunk in came)


async def test_events_cut_anywhere_come_whole(open_house: OpenHouse) -> None:
    async def cut(call: FakeCall) -> None:
        call.started()
        text = b"".join((*words("Hello", " world"), b"data: [DONE]\n\n"))
        call.data(*(text[n : n + 3] for n in range(0, len(text), 3)))
        call.finished()

    async with open_house(decode=[fake("decode", "d0", cut)]) as h:
        assert (await h.chat(STREAM)).content == b"".join((*words("Hello", " world"), b"data: [DONE]\n\n"))


async def test_a_stream_without_data_leaves_nothing_behind(open_house: OpenHouse) -> None:
    async def empty(call: FakeCall) -> None:
        call.started()
        call.finished()

    async with open_house(decode=[fake("decode", "d0", empty)]) as h:
        assert (await h.chat(STREAM)).status_code == 200
        assert not any(worker.link.sinks for worker in h.router.fleet.workers)


class BreaksWhenCancelled(NoTracer):
    """Spans that raise when the deadline cancels what they are of."""

    context = NO_CONTEXT

    def serve(self, name: str, headers: Any, attributes: Any) -> Any:
        return self

    def child(self, name: str) -> Self:
        return self

    def note(self, attributes: Any) -> None: ...

    def fail(self, reason: str) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is asyncio.CancelledError:
            raise RuntimeError("nobody foresaw this")


@SERVERS
async def test_what_nobody_foresaw_ends_a_stream_with_an_error_event(
    open_house: OpenHouse, http: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def never_end(call: FakeCall) -> None:
        await begin_then(call, hang)

    options = {"routing": RoutingSpec(request_timeout=DEADLINE), "tracer": BreaksWhenCancelled(), "http": http}
    async with open_house(decode=[fake("decode", "d0", never_end)], **options) as h:
        word, error, done = events((await h.chat(STREAM)).text)
        assert "Hel" in word
        assert json.loads(error)["error"]["message"] == "internal server error"
        assert done == "[DONE]"
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("early", [True, False], ids=["started early", "started when whole"])
async def test_a_whole_answer_releases_its_lease_when_decode_starts(open_house: OpenHouse, early: bool) -> None:
    body = b'{"choices":[]}'

    async def whole(call: FakeCall) -> None:
        call.say(started=[pb.Started(
            call_id=call.submit.call_id, status=200, content_type="application/json",
            content_bytes=0 if early else len(body),
        )])  # fmt: skip
        await h.until(lambda: not h.prefill[0].leases)
        call.data(body[:5], body[5:])
        call.finished()

    async with open_house([fake("prefill", "p0")], [fake("decode", "d0", whole)]) as h:
        answer = await h.chat()
        assert (answer.content, answer.headers["content-type"]) == (body, "application/json")
        assert answer.headers["content-length"] == str(len(body))
        name = 'tandem_router_time_to_first_token_seconds_count{service="default/m",version="v1"}'
        assert await h.metric(name) == early


async def test_a_whole_answer_that_fails_after_its_start_is_computed_again(open_house: OpenHouse) -> None:
    async def half(call: FakeCall) -> None:
        call.say(started=[pb.Started(call_id=call.submit.call_id, status=200, content_type="application/json")])
        call.data(b'{"half":')
        await h.until(lambda: not h.prefill[0].leases)
        call.worker.drop_sessions()

    script = first_fails(half, decode_well)
    async with open_house([fake("prefill", "p0")], [fake("decode", f"d{n}", script) for n in range(2)]) as h:
        assert (await h.chat()).json()["choices"][0]["message"]["content"] == "Hello world"
        assert len(h.prefill[0].calls) == 2
