"""The queue of services."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tandem_operator.queueing import Closed, KeyedQueue


async def _taken(queue: KeyedQueue[str]) -> str:
    async with asyncio.timeout(60):
        return await queue.get()


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue = KeyedQueue[str]()
    queue.open()
    for key in ("a", "a", "b", "a"):
        queue.add(key)
    assert [await _taken(queue), await _taken(queue)] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_that_is_worked_on_is_not_handed_out_again_until_it_is_done() -> None:
    queue = KeyedQueue[str]()
    queue.open()
    queue.add("a")
    assert await _taken(queue) == "a"
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert await _taken(queue) == "b"
    queue.done("a")
    assert await _taken(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_nothing_is_handed_out_before_all_is_known() -> None:
    queue = KeyedQueue[str]()
    queue.add("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await queue.get()
    queue.open()
    assert await _taken(queue) == "a"


async def test_of_several_times_the_earliest_counts() -> None:
    queue = KeyedQueue[str]()
    queue.open()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    assert await _taken(queue) == "a"


async def test_failures_in_a_row_are_further_and_further_apart_and_a_success_ends_the_row() -> None:
    queue = KeyedQueue[str]()
    waits = [queue.retry("a") for _ in range(20)]
    assert waits == sorted(waits)
    assert waits[0] < waits[5] < waits[-1] <= 60
    queue.succeeded("a")
    assert queue.retry("a") == waits[0]
    assert queue.retry("b", at_least=7) == 7
    queue.close()


async def test_all_workers_end_when_the_queue_is_closed() -> None:
    queue = KeyedQueue[str]()
    queue.open()

    async def work() -> str:
        try:
            return await queue.get()
        except Closed:
            return "ended"

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.close()
    assert [worker.result() for worker in workers] == ["ended"] * 3


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.sampled_from("abc")), max_size=60))
def test_no_change_is_missed_and_no_key_is_worked_on_twice_at_once(steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        queue, working, pending = KeyedQueue[str](), set[str](), set[str]()
        queue.open()
        for step, key in steps:
            if step == "add":
                queue.add(key)
                pending.add(key)
            elif step == "get" and len(queue):
                got = await queue.get()
                assert got not in working
                assert got in pending
                working.add(got)
                pending.discard(got)
            elif step == "done" and key in working:
                working.discard(key)
                queue.done(key)
        for key in working:
            queue.done(key)
        left = {await queue.get() for _ in range(len(queue))}
        assert left == pending

    asyncio.run(play())
