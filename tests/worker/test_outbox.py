"""What the next frame takes: order, sizes, fairness, and when it may wait."""

from hypothesis import given
from hypothesis import strategies as st
from tandem_engine.worker.outbox import Lane, Outbox, Tally
from tandem_proto.protocol import MAX_MESSAGE_BYTES, PIECE_BYTES
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

CALLS = range(6)
SIZES = st.one_of(st.integers(1, 200), st.integers(PIECE_BYTES - 2, PIECE_BYTES + 2), st.integers(1, 5 * PIECE_BYTES))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("started"), st.sampled_from(CALLS)),
        st.tuples(st.just("data"), st.sampled_from(CALLS), SIZES),
        st.tuples(st.sampled_from(["finished", "failed", "drop"]), st.sampled_from(CALLS)),
        st.tuples(st.sampled_from(["take", "load", "hello"])),
    ),
    max_size=60,
)


def drain(outbox: Outbox) -> list[pb.Downward]:
    frames = []
    while (frame := outbox.take()) is not None:
        frames.append(frame)
    return frames


def talking(outbox: Outbox, *call_ids: int) -> list[Lane]:
    """Lanes whose first data has gone out."""
    lanes = [Lane(call_id) for call_id in call_ids]
    for lane in lanes:
        outbox.data(lane, b"first")
    drain(outbox)
    return lanes


@given(STEPS)
def test_every_call_is_heard_whole_and_in_order_in_frames_within_the_limits(steps):
    outbox = Outbox(Tally())
    lanes = {call: Lane(call) for call in CALLS}
    begun: set[int] = set()
    said: dict[int, list] = {call: [] for call in CALLS}
    frames: list[pb.Downward] = []
    dropped: dict[int, int] = {}  # call: frames taken when it was
    for number, (kind, *rest) in enumerate(steps):
        lane = lanes[rest[0]] if rest else None
        open_ = lane is not None and not lane.closed
        if kind == "started" and open_ and lane.call_id not in begun and not said[lane.call_id]:
            outbox.started(lane, pb.Started(call_id=lane.call_id, status=200))
            begun.add(lane.call_id)
            said[lane.call_id].append("started")
        elif kind == "data":
            chunk = number.to_bytes(2, "big") * rest[1]
            outbox.data(lane, chunk)
            said[lane.call_id].extend([chunk] if open_ else [])
        elif kind in ("finished", "failed"):
            outbox.end(lane, (pb.Finished if kind == "finished" else pb.Failed)(call_id=lane.call_id))
            said[lane.call_id].extend([kind] if open_ else [])
        elif kind == "drop":
            outbox.drop(lane)
            dropped.setdefault(lane.call_id, len(frames))
        elif kind == "load":
            outbox.load(pb.Load(ready=True), urgent=False)
        elif kind == "hello":
            outbox.hello(pb.Hello(router="r"))
        elif kind == "take" and (frame := outbox.take()) is not None:
            frames.append(frame)
    frames += drain(outbox)

    assert outbox.bytes == 0
    assert outbox.empty
    assert not outbox.due
    heard: dict[int, list] = {call: [] for call in CALLS}
    for frame_number, frame in enumerate(frames):
        assert 0 < frame.ByteSize() <= MAX_MESSAGE_BYTES
        events = [
            *((started.call_id, "started") for started in frame.started),
            *zip(frame.data_calls, frame.data, strict=True),
            *((end.call_id, "finished") for end in frame.finished),
            *((end.call_id, "failed") for end in frame.failed),
        ]
        kinds = [(call, event if isinstance(event, str) else "data") for call, event in events]
        assert len(kinds) == len(set(kinds)), "more than one element of a kind of one call"
        assert all(len(data) <= PIECE_BYTES for data in frame.data)
        for call, event in events:
            assert frame_number < dropped.get(call, len(frames))
            heard[call].append(event)
    for call in CALLS:
        if call in dropped:
            assert said_start(heard[call], said[call])
        else:
            assert joined(heard[call]) == joined(said[call])

    streaming = [lane for lane in lanes.values() if lane.spoken and not lane.closed]
    for lane in streaming:
        assert not outbox.due, "a frame does not wait for a call that streams"
        outbox.data(lane, b"event")
    assert outbox.due == bool(streaming)


def joined(events: list) -> list:
    """Events with neighbouring data joined."""
    result: list = []
    for event in events:
        if isinstance(event, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += event
        else:
            result.append(event)
    return result


def said_start(heard: list, said: list) -> bool:
    """Whether what was heard is the beginning of what was said."""
    flat_heard, flat_said = flat(heard), flat(said)
    return flat_said[: len(flat_heard)] == flat_heard


def flat(events: list) -> bytes:
    return b"".join(event if isinstance(event, bytes) else event.encode() for event in events)


def test_events_stay_whole_up_to_a_piece():
    outbox = Outbox(Tally())
    lane = Lane(1)
    events = [bytes([65 + number]) * 30_000 for number in range(5)]
    for event in events:
        outbox.data(lane, event)
    pieces = [frame.data[0] for frame in drain(outbox)]
    assert pieces == [events[0] + events[1], events[2] + events[3], events[4]]


def test_a_large_answer_does_not_hold_up_the_others():
    outbox = Outbox(Tally())
    outbox.data(large := Lane(1), b"x" * (40 * PIECE_BYTES))
    outbox.end(large, pb.Finished(call_id=1))
    small = [Lane(call_id) for call_id in range(2, 10)]
    for lane in small:
        outbox.data(lane, b"event")
    first, second, *_ = drain(outbox)
    assert list(first.data_calls) == [1, *range(2, 10)]
    assert list(second.data_calls) == [1]


def test_large_answers_take_turns():
    outbox = Outbox(Tally())
    for call_id in range(1, 9):
        outbox.data(Lane(call_id), b"x" * (2 * PIECE_BYTES))
    turns = [call_id for frame in drain(outbox) for call_id in frame.data_calls]
    assert turns == [*range(1, 9), *range(1, 9)]


def test_an_end_beyond_a_frame_goes_alone():
    outbox = Outbox(Tally())
    outbox.data(Lane(1), b"event")
    handle = kv_pb2.KvHandle(connector_params=b"x" * MAX_MESSAGE_BYTES)
    outbox.end(Lane(2), pb.Finished(call_id=2, kv=handle))
    frames = drain(outbox)
    assert [len(frame.data_calls) for frame in frames] == [1, 0]
    assert frames[1].finished[0].kv == handle


def test_a_first_data_does_not_wait():
    outbox = Outbox(Tally())
    talking(outbox, 1)
    outbox.data(Lane(2), b"first")
    assert outbox.due


def test_first_data_goes_before_that_of_others_in_its_frame():
    outbox = Outbox(Tally())
    old = talking(outbox, 1, 2)
    for lane in (*old, Lane(3), Lane(4)):
        outbox.data(lane, b"token")
    [frame] = drain(outbox)
    assert list(frame.data_calls) == [3, 4, 1, 2]
    for lane in (Lane(5), *old):
        outbox.data(lane, b"token")
    [frame] = drain(outbox)
    assert list(frame.data_calls) == [5, 1, 2]


def test_an_end_without_data_does_not_wait():
    outbox = Outbox(Tally())
    talking(outbox, 1)
    outbox.end(Lane(2), pb.Finished(call_id=2))
    assert outbox.due


def test_a_frame_waits_for_the_calls_that_stream():
    outbox = Outbox(Tally())
    one, two = talking(outbox, 1, 2)
    outbox.data(one, b"second")
    assert not outbox.due
    outbox.data(two, b"second")
    assert outbox.due


def test_a_lone_stream_does_not_wait():
    outbox = Outbox(Tally())
    (lane,) = talking(outbox, 1)
    outbox.data(lane, b"second")
    assert outbox.due


def test_calls_that_are_over_are_not_waited_for():
    outbox = Outbox(Tally())
    one, two, three = talking(outbox, 1, 2, 3)
    outbox.end(two, pb.Finished(call_id=2))
    drain(outbox)
    outbox.drop(three)
    outbox.data(one, b"second")
    assert outbox.due


def test_what_did_not_fit_goes_on_at_once():
    outbox = Outbox(Tally())
    talking(outbox, 1)
    outbox.data(Lane(2), b"x" * (2 * PIECE_BYTES))
    outbox.take()
    assert outbox.due


def test_only_a_load_that_flips_is_urgent():
    outbox = Outbox(Tally())
    outbox.load(pb.Load(running=1), urgent=False)
    assert not outbox.due
    outbox.load(pb.Load(draining=True), urgent=True)
    assert outbox.due
    assert outbox.take().load.draining


def test_a_dropped_call_is_not_heard_of_again():
    outbox = Outbox(Tally())
    lane = Lane(1)
    outbox.started(lane, pb.Started(call_id=1))
    outbox.data(lane, b"event")
    outbox.drop(lane)
    outbox.data(lane, b"more")
    outbox.end(lane, pb.Finished(call_id=1))
    assert outbox.take() is None
    assert outbox.bytes == 0


def test_handles_that_were_not_sent_are_known():
    outbox = Outbox(Tally())
    outbox.end(Lane(1), pb.Finished(call_id=1, kv=kv_pb2.KvHandle(lease=b"one")))
    assert outbox.unsent_leases() == [b"one"]
    outbox.take()
    assert outbox.unsent_leases() == []
