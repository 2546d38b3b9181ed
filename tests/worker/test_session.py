"""A session over real gRPC: what a router is told of its calls, and what ends them."""

import asyncio
import json

import grpc
import pytest
from tandem_engine.engine import Call, Outcome, Reply
from tandem_engine.errors import InvalidRequest, KvMismatch
from tandem_engine.worker import call as call_module
from tandem_engine.worker import session as session_module
from tandem_proto.protocol import MAX_MESSAGE_BYTES, PIECE_BYTES
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.worker.conftest import echo

SSE = "text/event-stream; charset=utf-8"


class Held:
    """An engine's answer that begins, and then stays until it is let go or cancelled."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Semaphore(0)
        self.cancelled = 0

    async def __call__(self, call: Call, reply: Reply) -> Outcome:
        reply.started(200, SSE, 0, pb.KvReport(outcome=pb.KvReport.WHOLE))
        reply.data(b"data: first\n\n")
        self.begun.release()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        reply.data(b"data: [DONE]\n\n")
        return Outcome(pb.Usage())


async def test_a_stream_comes_in_order_and_ends_with_its_usage(running):
    async with running() as worker, worker.session() as router:
        await router.submit(7, {"words": ["a", "b", "c"]})
        call = await router.end_of(7)
    assert call.started.status == 200
    assert call.data == b"data: a\n\ndata: b\n\ndata: c\n\ndata: [DONE]\n\n"
    assert call.order[0] == "started"
    assert call.end.usage.completion_tokens == 3
    assert call.end.finish_reason == "stop"
    assert call.end.timings.total_micros >= call.end.timings.first_token_micros > 0


async def test_both_sides_say_hello(running):
    async with running() as worker, worker.session() as router:
        await router.until(lambda: router.hellos[-1].limits.max_running == 2)
        sessions = (await worker.describe()).sessions
    hello = router.hellos[-1]
    assert router.frames[0].HasField("hello")
    assert (hello.worker.name, hello.worker.role) == ("decode-0", pb.ROLE_DECODE)
    assert hello.layout.block_size == 32
    assert list(sessions) == ["router-0"]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (pb.Upward(hello=pb.Hello(protocol_min=7, protocol_max=9)), "speaks the protocols 1 to 1, the router 7 to 9"),
        (pb.Upward(cancels=[1]), "begins with a Hello"),
    ],
)
async def test_a_session_that_begins_wrongly_is_refused(running, first, said):
    async with running() as worker, worker.channel() as channel:
        stream = worker.stub(channel).Session()
        await stream.write(first)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert said in refused.value.details()


async def test_a_router_of_a_later_release_is_understood(running):
    later = pb.Upward(hello=pb.Hello(protocol_min=1, protocol_max=9, features=["telepathy"], router="later"))
    async with running() as worker, worker.channel() as channel:
        stream = worker.stub(channel).Session()
        await stream.write(later)
        assert (await stream.read()).hello.protocol_max == 1


async def test_unknown_fields_are_tolerated_and_an_unknown_api_is_refused(running):
    unknown = b"\xc2\x3e\x04what"  # field 1000, bytes
    submit = pb.Submit.FromString(pb.Submit(call_id=1, api=77, response_id="r1").SerializeToString() + unknown)
    async with running() as worker, worker.session() as router:
        await router.send(pb.Upward.FromString(pb.Upward(submits=[submit]).SerializeToString() + unknown))
        refused = (await router.end_of(1)).end
        await router.submit(2, {"words": []})
        served = (await router.end_of(2)).end
    assert (refused.code, "77" in refused.message) == (pb.INVALID_REQUEST, True)
    assert isinstance(served, pb.Finished)


async def test_what_a_call_came_with_reaches_the_engine(running, engine):
    async with running(engine=engine) as worker, worker.session() as router:
        fields = {"kv": kv_pb2.KvHandle(lease=b"l", tokens=5), "priority": -3, "tenant": "t", "tracestate": "a=b"}
        traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await router.submit(1, {"words": []}, traceparent=traceparent, **fields)
        await router.end_of(1)
    (call,) = engine.calls
    assert (call.response_id, call.api, call.priority, call.tenant) == ("r1", pb.API_CHAT_COMPLETIONS, -3, "t")
    assert call.kv.tokens == 5
    assert call.trace == {"traceparent": traceparent, "tracestate": "a=b"}


async def test_a_body_in_pieces_is_put_together(running):
    words = ["x" * 1000] * 300
    body = json.dumps({"words": words}).encode()
    async with running() as worker, worker.session() as router:
        await router.submit(1, body[:PIECE_BYTES], body_bytes=len(body))
        for at in range(PIECE_BYTES, len(body), PIECE_BYTES):
            piece = pb.BodyPiece(call_id=1, data=body[at : at + PIECE_BYTES])
            await router.send(pb.Upward(pieces=[piece]))
        call = await router.end_of(1)
    assert call.data.count(b"data: ") == 301


async def test_a_body_over_the_limit_is_refused(running, engine):
    async with running(engine=engine, max_body_bytes=1000) as worker, worker.session() as router:
        await router.submit(1, b"{", body_bytes=1001)
        end = (await router.end_of(1)).end
        await router.send(pb.Upward(pieces=[pb.BodyPiece(call_id=1, data=b"late")]))
        await worker.at_rest()
    assert end.code == pb.REQUEST_TOO_LARGE
    assert "1,001 bytes; at most 1,000" in end.message
    assert engine.calls == []


async def test_a_body_longer_than_announced_is_refused(running):
    async with running() as worker, worker.session() as router:
        await router.submit(1, b"{", body_bytes=3)
        await router.send(pb.Upward(pieces=[pb.BodyPiece(call_id=1, data=b"three")]))
        assert (await router.end_of(1)).end.code == pb.INVALID_REQUEST


async def test_a_body_that_does_not_come_is_given_up(running, monkeypatch):
    monkeypatch.setattr(call_module, "BODY_SECONDS", 0.05)
    async with running() as worker, worker.session() as router:
        await router.submit(1, b"{", body_bytes=3)
        assert (await router.end_of(1)).end.code == pb.DEADLINE_EXCEEDED
        await worker.at_rest()


async def test_a_cancelled_call_frees_its_place_and_says_nothing(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        await router.until(lambda: 1 in router.calls and router.calls[1].data)
        await router.send(pb.Upward(cancels=[1, 99]))
        await worker.at_rest()
        engine.answering = None
        await router.submit(2, {"words": []})
        await router.end_of(2)
    assert held.cancelled == 1
    assert router.calls[1].end is None


async def test_cancels_come_before_submits_of_the_same_message(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine, max_waiting=0) as worker, worker.session() as router:
        for call_id in (1, 2):
            await router.submit(call_id, {})
            await held.begun.acquire()
        submit = pb.Submit(call_id=3, response_id="r3", api=pb.API_CHAT_COMPLETIONS, body=b"{}")
        held.go.set()
        await router.end_of(1)
        await router.send(pb.Upward(cancels=[2], submits=[submit]))
        assert isinstance((await router.end_of(3)).end, pb.Finished)
        await worker.at_rest()


async def test_a_deadline_ends_a_call(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {}, time_left_ms=2000)
        call = await router.end_of(1)
        await worker.at_rest()
    assert call.end.code == pb.DEADLINE_EXCEEDED
    assert call.data == b"data: first\n\n"
    assert held.cancelled == 1


async def test_a_call_id_that_is_submitted_twice_ends_once(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        await held.begun.acquire()
        await router.submit(1, {})
        assert (await router.end_of(1)).end.code == pb.INVALID_REQUEST
        twice = [pb.Submit(call_id=2, api=pb.API_CHAT_COMPLETIONS, body=b"{}")] * 2
        await router.send(pb.Upward(submits=twice))
        assert (await router.end_of(2)).end.code == pb.INVALID_REQUEST
        await worker.at_rest()
    assert held.cancelled == 1


async def test_one_call_more_than_may_run_and_wait_is_overloaded(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine, max_waiting=1) as worker, worker.session() as router:
        for call_id in (1, 2, 3):
            await router.submit(call_id, {})
            await held.begun.acquire()
        await router.submit(4, {})
        assert (await router.end_of(4)).end.code == pb.OVERLOADED
        held.go.set()
        await router.end_of(1)
        await router.submit(5, {})
        assert isinstance((await router.end_of(5)).end, pb.Finished)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("temperature is 9: at most 2", param="temperature", type="odd"), pb.INVALID_REQUEST),
        (KvMismatch("another prompt"), pb.KV_MISMATCH),
    ],
)
async def test_an_error_of_a_kind_reaches_the_router(running, engine, error, code):
    async def answer(call: Call, reply: Reply) -> Outcome:
        raise error

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        end = (await router.end_of(1)).end
    assert (end.code, end.message, end.param, end.type) == (code, error.message, error.param, error.type)


async def test_a_call_that_ends_with_its_data_needs_no_frame_for_its_end(running, engine):
    async def answer(call: Call, reply: Reply) -> Outcome:
        done = asyncio.get_running_loop().create_future()

        def step() -> None:
            reply.started(200, SSE, 0, pb.KvReport())
            reply.data(b"data: all\n\n")
            done.set_result(None)

        asyncio.get_running_loop().call_soon(step)
        await done
        return Outcome(pb.Usage())

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        await router.end_of(1)
        (frame,) = [frame for frame in router.frames if frame.data_calls or frame.finished]
    assert (list(frame.data), len(frame.finished)) == ([b"data: all\n\n"], 1)


@pytest.mark.parametrize("error", [ZeroDivisionError("secret 10.0.0.7"), TimeoutError(), asyncio.CancelledError()])
async def test_an_unforeseen_error_is_internal_and_tells_clients_nothing(running, engine, error, caplog):
    async def answer(call: Call, reply: Reply) -> Outcome:
        reply.started(200, SSE, 0, pb.KvReport())
        reply.data(b"data: first\n\n")
        raise error

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        call = await router.end_of(1)
        await worker.at_rest()
    assert call.end.code == pb.INTERNAL
    assert "secret" not in call.end.message
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.response_id == "r1"
    assert record.exc_info[1] is error


async def _only_session(worker, name: str) -> bool:
    return list((await worker.describe()).sessions) == [name]


async def test_a_lost_session_cancels_its_calls_and_no_others(running, engine, eventually):
    engine.answering = held = Held()
    async with running(engine=engine) as worker, worker.session("stays") as stays:
        async with worker.session("goes") as goes:
            for router in (stays, goes):
                await router.submit(1, {})
                await held.begun.acquire()
        await eventually(lambda: _only_session(worker, "stays"))
        assert held.cancelled == 1
        held.go.set()
        assert isinstance((await stays.end_of(1)).end, pb.Finished)
        await worker.at_rest()


async def test_a_router_that_closes_its_side_ends_the_session(running, engine):
    engine.answering = held = Held()
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, {})
        await held.begun.acquire()
        await router.stream.done_writing()
        assert await asyncio.wait_for(router.stream.code(), 60) == grpc.StatusCode.OK
        assert held.cancelled == 1


async def _no_session(worker) -> bool:
    return not (await worker.describe()).sessions


async def test_a_router_that_does_not_read_is_dropped(running, engine, monkeypatch, eventually):
    monkeypatch.setattr(session_module, "OUTBOX_BYTES", 4 * 2**20)
    ended = asyncio.Event()

    async def answer(call: Call, reply: Reply) -> Outcome:
        reply.started(200, SSE, 0, pb.KvReport())
        try:
            while True:
                reply.data(b"x" * PIECE_BYTES)
                await asyncio.sleep(0)
        finally:
            ended.set()

    engine.answering = answer
    async with running(engine=engine) as worker, worker.channel() as channel:
        stream = worker.stub(channel).Session()
        submit = pb.Submit(call_id=1, response_id="r1", api=pb.API_CHAT_COMPLETIONS, body=b"{}")
        hello = pb.Hello(protocol_min=1, protocol_max=1, router="deaf")
        async with worker.session("reads"):  # which is to say: the worker is ready
            pass
        await stream.write(pb.Upward(hello=hello, submits=[submit]))
        await asyncio.wait_for(ended.wait(), 60)
        await worker.at_rest()
        await eventually(lambda: _no_session(worker))


async def test_a_message_over_the_limit_ends_the_session(running):
    async with running() as worker, worker.session() as router:
        await router.submit(1, b"x" * (MAX_MESSAGE_BYTES + 1))
        await router.until(lambda: router.failure is not None)
    assert router.failure.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_large_answer_comes_in_pieces_between_others(running, engine):
    large = bytes(range(256)) * 4 * 1024 * 4  # 4 MiB

    async def answer(call: Call, reply: Reply) -> Outcome:
        body = large if call.body == b"large" else b"{}"
        reply.started(200, "application/json", len(body), pb.KvReport())
        reply.data(body)
        return Outcome(pb.Usage())

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"large")
        await router.submit(2, b"small")
        one, two = await router.end_of(1), await router.end_of(2)
    assert one.data == large
    assert one.started.content_bytes == len(large)
    assert two.data == b"{}"


async def test_a_prefill_call_ends_with_a_handle_that_can_be_handed_on_and_released(running, engine):
    async with running("prefill", engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"prompt")
        handle = (await router.end_of(1)).end.kv
        assert (handle.lease, handle.tokens) == (b"r1", 6)
        await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=2, lease=handle.lease)]))
        handed = (await router.end_of(2)).end.kv
        await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=3, lease=handle.lease)]))
        assert (await router.end_of(3)).end.code == pb.KV_GONE
        assert (await worker.describe()).counters["leases"] == 1
        await router.send(pb.Upward(releases=[handed.lease, b"unknown"]))
        async with asyncio.timeout(60):
            while (await worker.describe()).counters["leases"]:
                await asyncio.sleep(0.01)
    assert engine.leases == set()


async def test_a_handle_that_was_made_in_spite_of_its_cancel_is_released(running, engine):
    granted = asyncio.Event()

    async def answer(call: Call, reply: Reply) -> Outcome:
        engine.leases.add(b"late")
        granted.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Outcome(pb.Usage(), kv=kv_pb2.KvHandle(lease=b"late"))
        raise AssertionError

    engine.answering = answer
    async with running("prefill", engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"prompt")
        await granted.wait()
        await router.send(pb.Upward(cancels=[1]))
        await worker.at_rest()
        assert (await worker.describe()).counters["leases"] == 0


async def test_a_decode_worker_holds_no_leases(running):
    async with running() as worker, worker.session() as router:
        await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=2, lease=b"l")], releases=[b"l"]))
        assert (await router.end_of(2)).end.code == pb.KV_GONE


async def test_a_stream_does_not_wait_long_for_one_that_is_silent(running, engine):
    said = asyncio.Event()

    async def answer(call: Call, reply: Reply) -> Outcome:
        reply.started(200, SSE, 0, pb.KvReport())
        reply.data(b"data: first\n\n")
        await said.wait()
        if call.response_id == "r1":
            reply.data(b"data: second\n\n")
        await asyncio.Event().wait()
        raise AssertionError

    engine.answering = answer
    async with running(engine=engine) as worker, worker.session() as router:
        for call_id in (1, 2):
            await router.submit(call_id, {})
        await router.until(lambda: sum(bool(call.data) for call in router.calls.values()) == 2)
        said.set()
        await router.until(lambda: router.calls[1].data.endswith(b"second\n\n"))


async def test_a_thousand_streams_share_frames(running, engine):
    go = asyncio.Event()

    async def together(call: Call, reply: Reply) -> Outcome:
        if len(engine.calls) == 1000:
            go.set()
        await go.wait()
        return await echo(call, reply)

    engine.answering = together
    engine.facts = type(engine.facts)("fake", engine.facts.layout, 1024, 1024, 100, 0)
    async with running(engine=engine) as worker, worker.session() as router:
        body = {"words": [f"w{number}" for number in range(16)]}
        for call_id in range(1000):
            await router.submit(call_id, body)
        for call_id in range(1000):
            assert (await router.end_of(call_id)).data.count(b"data: ") == 17
        await worker.at_rest()
    assert len(router.frames) < 17 * 1000 / 4
