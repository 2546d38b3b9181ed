"""A session's frames on their way to the calls: what goes first, and what shares a message."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.failures import CallFailed
from tandem_router.sessions.link import Link

from tests.router.fake_worker import FakeCall, FakeWorker


class Listener:
    """Knows when the worker may be asked."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    def greeted(self, hello: pb.Hello) -> None:
        return None

    def loaded(self, load: pb.Load) -> None:
        self.ready.set()

    def lost(self) -> None:
        return None


class Leg:
    """Writes down what is heard, and the turns of the loop in between."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self._name = name
        self._heard = heard
        self.over = asyncio.Event()

    def started(self, started: pb.Started) -> None:
        self._say("started")

    def data(self, chunk: bytes) -> None:
        self._say(chunk.decode())
        asyncio.get_running_loop().call_soon(self._heard.append, "turn")

    def finished(self, finished: pb.Finished) -> None:
        self._say("finished")
        self.over.set()

    def failed(self, failure: CallFailed) -> None:
        self._say(failure.reason)
        self.over.set()

    def _say(self, what: str) -> None:
        self._heard.append(f"{self._name} {what}")


@asynccontextmanager
async def linked(answer: Callable[[dict[bytes, FakeCall]], None]) -> AsyncIterator[tuple[Link, FakeWorker]]:
    """A link to a worker that answers when it has two calls, by their bodies."""
    calls: dict[bytes, FakeCall] = {}

    async def script(call: FakeCall) -> None:
        calls[call.body] = call
        if len(calls) == 2:
            answer(calls)
        await call.cancelled.wait()

    worker, listener = FakeWorker("decode", "d", script, pb.Limits(), pb.Identity()), Listener()
    async with asyncio.timeout(60), worker.serving(), asyncio.TaskGroup() as tasks:
        link = Link(worker.endpoint, "router", None, listener)
        tasks.create_task(link.run())
        await listener.ready.wait()
        yield link, worker
        link.close()


async def ask_two(answer: Callable[[dict[bytes, FakeCall]], None]) -> tuple[list[str], FakeWorker]:
    heard: list[str] = []
    old, new = Leg("old", heard), Leg("new", heard)
    async with linked(answer) as (link, worker):
        for leg, body in ((old, b"old"), (new, b"new")):
            link.submit(pb.Submit(), body, leg)
        for leg in (old, new):
            await leg.over.wait()
    return heard, worker


async def test_first_tokens_go_in_a_turn_of_their_own_before_the_others() -> None:
    def answer(calls: dict[bytes, FakeCall]) -> None:
        old, new = (calls[body].submit.call_id for body in (b"old", b"new"))
        calls[b"old"].started()
        calls[b"new"].say(
            started=[pb.Started(call_id=new)],
            data_calls=[new, old],
            data=[b"first", b"later"],
            finished=[pb.Finished(call_id=new), pb.Finished(call_id=old)],
        )

    heard, _ = await ask_two(answer)
    assert heard[:4] == ["old started", "new started", "new first", "turn"]
    assert heard[4:] == ["old later", "new finished", "old finished", "turn"]


async def test_a_frame_that_begins_with_others_goes_at_once_and_in_its_order() -> None:
    def answer(calls: dict[bytes, FakeCall]) -> None:
        old, new = (calls[body].submit.call_id for body in (b"old", b"new"))
        calls[b"old"].started()
        calls[b"new"].say(started=[pb.Started(call_id=new)], data_calls=[old, new], data=[b"later", b"first"])
        calls[b"new"].say(finished=[pb.Finished(call_id=new), pb.Finished(call_id=old)])

    heard, _ = await ask_two(answer)
    assert [word for word in heard if word != "turn"] == [
        "old started",
        "new started",
        "old later",
        "new first",
        "new finished",
        "old finished",
    ]


async def test_frames_keep_their_order_where_the_first_is_still_being_told() -> None:
    def answer(calls: dict[bytes, FakeCall]) -> None:
        old, new = (calls[body].submit.call_id for body in (b"old", b"new"))
        calls[b"old"].started()
        calls[b"new"].say(started=[pb.Started(call_id=new)], data_calls=[new, old], data=[b"first", b"one"])
        for word in (b"two", b"three"):
            calls[b"old"].data(word)
        calls[b"new"].say(finished=[pb.Finished(call_id=new), pb.Finished(call_id=old)])

    heard, _ = await ask_two(answer)
    assert [word for word in heard if word.startswith("old")] == [
        "old started",
        "old one",
        "old two",
        "old three",
        "old finished",
    ]


async def test_calls_of_one_turn_share_a_message() -> None:
    def answer(calls: dict[bytes, FakeCall]) -> None:
        for call in calls.values():
            call.finished()

    _, worker = await ask_two(answer)
    [message] = [message for message in worker.messages if message.submits]
    assert [submit.body for submit in message.submits] == [b"old", b"new"]


async def test_a_session_that_breaks_tells_what_has_come_and_then_the_failure() -> None:
    def answer(calls: dict[bytes, FakeCall]) -> None:
        old, new = (calls[body].submit.call_id for body in (b"old", b"new"))
        calls[b"old"].started()
        calls[b"new"].say(started=[pb.Started(call_id=new)], data_calls=[new, old], data=[b"first", b"later"])
        calls[b"new"].worker.drop_sessions()

    heard, _ = await ask_two(answer)
    assert [word for word in heard if word != "turn"] == [
        "old started",
        "new started",
        "new first",
        "old later",
        "old session_lost",
        "new session_lost",
    ]
