"""A pair of engines, asked by the official clients as by a router."""

from tandem_engine.engine import Call
from tandem_proto.tandem.v1 import worker_pb2

from tests.surfaces.transport import Answering, Recorder
from tests.vllm_engine.engines import Pair


def by(pair: Pair) -> Answering:
    """As a router does: prefill where a transfer can carry the call, decode, release."""

    async def answer(call: Call, reply: Recorder) -> None:
        if call.api == worker_pb2.API_COUNT_TOKENS:
            await pair.decode.generate(call, reply)
            return
        handle = (await pair.prefill.prefill(call)).kv
        assert handle is not None
        try:
            await pair.decode.generate(Call(call.response_id, call.api, call.body, kv=handle), reply)
        finally:
            pair.prefill.release(handle.lease)

    return answer
