"""The engine as a worker uses it: steps in virtual time, cancels, refusals, counters."""

import asyncio

import pytest
from tandem_engine.errors import EngineDead, Overloaded, Unavailable
from tandem_engine.virtual import VirtualEngine

from tests.virtual_engine.conftest import (
    TIMEOUT,
    RecordedReply,
    StartEngine,
    VirtualClock,
    call,
    chat,
    settle,
    words,
)


def endless(**fields: object) -> dict:
    return chat(ignore_eos=True, stream=True, max_tokens=5000, **fields)


async def test_a_steps_time_is_its_prompt_tokens_and_one_decode_step(start: StartEngine) -> None:
    clock = VirtualClock()
    engine = await start(clock=clock, prefill_token_time=0.001, decode_step_time=0.02)
    body = {"model": "m", "prompt": words(30), "max_tokens": 3, "ignore_eos": True}
    outcome = await engine.generate(call(body, api="completion"), RecordedReply())
    assert outcome.timings.first_token_micros == 30_000
    assert outcome.timings.total_micros == 70_000
    assert clock.sleeps == pytest.approx([0.03, 0.02, 0.02])


async def test_many_streams_share_their_steps(start: StartEngine) -> None:
    clock = VirtualClock()
    engine = await start(clock=clock, slots=64, prefill_token_time=0.0, decode_step_time=0.02)
    bodies = [chat(f"Number {i}", stream=True, ignore_eos=True, max_tokens=10) for i in range(64)]
    await asyncio.gather(*(engine.generate(call(body), RecordedReply()) for body in bodies))
    assert engine.totals()["generated_tokens"] == 640
    assert sum(clock.sleeps) == pytest.approx(9 * 0.02)


async def test_a_step_that_begins_after_the_cancel_computes_nothing_for_the_call(start: StartEngine) -> None:
    engine = await start()
    idle = engine.load()
    reply = RecordedReply()
    running: asyncio.Task[object] = asyncio.create_task(engine.generate(call(endless()), reply))
    reply.on_data = lambda: running.cancel() if len(reply.chunks) == 5 else None
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, TIMEOUT)
    said, generated, steps = len(reply.chunks), engine.totals()["generated_tokens"], engine.totals()["steps"]
    await settle()
    assert len(reply.chunks) == said
    assert engine.totals()["generated_tokens"] == generated
    assert engine.totals()["steps"] == steps
    assert engine.load() == idle


async def test_a_cancelled_call_that_waits_gives_its_place_to_the_next(start: StartEngine) -> None:
    engine = await start(slots=1, max_waiting=1)
    first = asyncio.create_task(engine.generate(call(endless()), RecordedReply()))
    await settle()
    second = asyncio.create_task(engine.generate(call(endless()), RecordedReply()))
    await settle()
    with pytest.raises(Overloaded):
        await engine.generate(call(chat()), RecordedReply())
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(engine.generate(call(chat()), RecordedReply()))
    await settle()
    assert engine.load().waiting == 1
    first.cancel()
    await asyncio.wait([first])
    await asyncio.wait_for(third, TIMEOUT)


async def test_a_refused_call_with_several_choices_leaves_nothing(start: StartEngine) -> None:
    engine = await start(slots=2, max_waiting=1)
    idle = engine.load()
    with pytest.raises(Overloaded):
        await engine.generate(call(chat(n=4)), RecordedReply())
    assert engine.load() == idle


async def test_where_blocks_run_out_all_answers_are_still_those_of_an_engine_with_plenty(start: StartEngine) -> None:
    small, large = await start(slots=8, blocks=14), await start(slots=8)
    bodies = [chat(f"Number {i}", ignore_eos=True, max_tokens=60) for i in range(8)]

    async def texts(engine: VirtualEngine) -> list[str]:
        replies = [RecordedReply() for _ in bodies]
        calls = (engine.generate(call(body), reply) for body, reply in zip(bodies, replies, strict=True))
        await asyncio.wait_for(asyncio.gather(*calls), TIMEOUT)
        return [reply.text for reply in replies]

    assert await texts(small) == await texts(large)
    assert small.totals()["preemptions"] > 0
    assert small.load().free_blocks == 14


async def test_whoever_waits_is_served_though_others_keep_coming_with_priority(start: StartEngine) -> None:
    clock = VirtualClock()
    engine = await start(clock=clock, slots=1, decode_step_time=0.1)
    waiting: list[asyncio.Task[object]] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.generate(call(chat()), RecordedReply()))
        await asyncio.sleep(0)
        patient = tasks.create_task(engine.generate(call(chat("patient")), RecordedReply()))
        for i in range(120):
            waiting.append(tasks.create_task(engine.generate(call(chat(f"urgent {i}"), priority=-2), RecordedReply())))
            await asyncio.sleep(0)
        await asyncio.wait_for(patient, TIMEOUT)
        assert not all(task.done() for task in waiting)


async def test_prefill_has_nothing_left_but_its_lease(start: StartEngine) -> None:
    engine = await start("prefill")
    outcome = await engine.prefill(call(chat()))
    load = engine.load()
    assert (load.running, load.waiting, load.free_blocks, load.leases) == (0, 0, engine.facts.total_blocks, 1)
    assert engine.totals()["generated_tokens"] == 0
    assert outcome.kv is not None
    engine.release(outcome.kv.lease)
    assert (engine.load().leases, engine.load().staged_bytes) == (0, 0)


async def test_a_decode_engine_prefills_for_nobody(start: StartEngine) -> None:
    engine = await start("decode")
    with pytest.raises(Unavailable):
        await engine.prefill(call(chat()))
    with pytest.raises(Unavailable):
        await engine.hand_on(b"lease")
    engine.release(b"lease")


async def test_an_engine_that_has_ended_says_so(start: StartEngine) -> None:
    engine = await start()
    await engine.check()
    await engine.__aexit__(None, None, None)
    with pytest.raises(EngineDead):
        await engine.check()
