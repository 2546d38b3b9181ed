"""What goes up to a worker: cancels first, bounded messages, bodies in interleaved pieces."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tandem_proto.protocol import MAX_MESSAGE_BYTES, PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2 as pb
from tandem_router.sessions.outbox import Outbox


def drain(outbox: Outbox) -> list[pb.Upward]:
    messages = []
    while outbox:
        messages.append(outbox.next())
    return messages


def bodies(messages: list[pb.Upward]) -> dict[int, bytes]:
    """As a worker puts them together."""
    found: dict[int, bytes] = {}
    for message in messages:
        for submit in message.submits:
            assert submit.call_id not in found
            found[submit.call_id] = submit.body
        for piece in message.pieces:
            found[piece.call_id] += piece.data
    return found


@settings(deadline=None)
@given(st.lists(st.integers(0, 700_000), max_size=12))
def test_every_body_arrives_whole_in_messages_of_bounded_size(sizes: list[int]) -> None:
    outbox = Outbox()
    sent = {number: bytes([number]) * size for number, size in enumerate(sizes, 1)}
    for number, body in sent.items():
        outbox.submit(pb.Submit(call_id=number, response_id="x" * 60), body)
    messages = drain(outbox)
    assert bodies(messages) == sent
    assert all(message.ByteSize() <= MAX_MESSAGE_BYTES for message in messages)
    assert all(len(piece.data) <= PIECE_BYTES for message in messages for piece in message.pieces)
    assert all(s.body_bytes == len(sent[s.call_id]) for message in messages for s in message.submits)


def test_a_small_call_passes_a_large_one_that_is_under_way() -> None:
    outbox = Outbox()
    outbox.submit(pb.Submit(call_id=1), b"a" * 10_000_000)
    outbox.next()
    outbox.submit(pb.Submit(call_id=2), b"b")
    assert [submit.call_id for submit in outbox.next().submits] == [2]


def test_large_bodies_share_a_message() -> None:
    outbox = Outbox()
    for number in (1, 2, 3):
        outbox.submit(pb.Submit(call_id=number), b"x" * 1_000_000)
    drained = drain(outbox)
    assert any(len({piece.call_id for piece in message.pieces}) == 3 for message in drained)


def test_submits_that_wait_share_a_message() -> None:
    outbox = Outbox()
    for number in range(1, 51):
        outbox.submit(pb.Submit(call_id=number), b"{}")
    assert len(drain(outbox)) == 1


def test_a_call_cancelled_before_it_was_sent_is_never_heard_of() -> None:
    outbox = Outbox()
    outbox.submit(pb.Submit(call_id=1), b"{}")
    outbox.cancel(1)
    assert not outbox


def test_a_cancelled_body_is_not_sent_to_its_end() -> None:
    outbox = Outbox()
    outbox.submit(pb.Submit(call_id=1), b"x" * 1_000_000)
    outbox.next()
    outbox.cancel(1)
    (rest,) = drain(outbox)
    assert list(rest.cancels) == [1]
    assert not rest.pieces


def test_a_storm_of_cancels_stays_within_the_message_size() -> None:
    outbox = Outbox()
    for number in range(100_000, 120_000):
        outbox.cancel(number)
        outbox.release(number.to_bytes(16, "big"))
    messages = drain(outbox)
    assert sum(len(message.cancels) for message in messages) == 20_000
    assert sum(len(message.releases) for message in messages) == 20_000
    assert all(message.ByteSize() <= MAX_MESSAGE_BYTES for message in messages)
