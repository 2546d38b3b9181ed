"""A session over real gRPC: what a router is told of its calls."""

from tandem_proto.tandem.v1 import worker_pb2 as pb


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
    assert router.hellos[-1].worker.name == "decode-0"
    assert router.hellos[-1].worker.role == pb.ROLE_DECODE
    assert router.hellos[-1].layout.block_size == 32
