"""What calls leave in a worker, which is nothing."""

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tests.holdings import grown_by_nothing, holdings


async def test_a_session_holds_no_more_however_many_calls_it_has_had(running) -> None:
    async with running() as worker, worker.session() as router:

        async def calls(numbers: range) -> None:
            for number in numbers:
                at = 10 * number
                await router.submit(at, {"words": [f"word {number}"]}, tenant=f"tenant {number}")
                await router.end_of(at)
                await router.submit(at + 1, {"words": []}, api=99)
                assert (await router.end_of(at + 1)).end.code == pb.INVALID_REQUEST
                await router.send(pb.Upward(hand_ons=[pb.HandOn(call_id=at + 2, lease=b"%d" % number)]))
                assert (await router.end_of(at + 2)).end.code == pb.KV_GONE
                unknown = [at + 3], [b"%d" % number], [pb.BodyPiece(call_id=at + 4, data=b"x")]
                await router.send(pb.Upward(cancels=unknown[0], releases=unknown[1], pieces=unknown[2]))

        await calls(range(1, 5))
        before = holdings("tandem_engine")
        await calls(range(5, 25))
        await grown_by_nothing("tandem_engine", before)
