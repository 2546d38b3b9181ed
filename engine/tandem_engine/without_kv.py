"""What an engine has of KV that computes none itself: nothing to give, and nothing to keep."""

from tandem_proto.tandem.v1 import kv_pb2

from tandem_engine.engine import Call, Facts, Outcome
from tandem_engine.errors import InvalidRequest, Unavailable


def facts_without_kv(name: str, max_running: int) -> Facts:
    """Of an engine of this kind, with places for so many calls."""
    return Facts(
        name=name,
        layout=kv_pb2.KvLayout(),
        max_model_len=0,
        max_running=max_running,
        total_blocks=0,
        max_staged_bytes=0,
    )


class WithoutKv:
    """The part of `Engine` that is about KV, for decode workers in front of something else that answers."""

    async def prefill(self, call: Call) -> Outcome:
        raise InvalidRequest("this worker computes no KV")

    async def hand_on(self, lease: bytes) -> kv_pb2.KvHandle:
        raise Unavailable("this worker holds no KV for others")

    def release(self, lease: bytes) -> None:
        """There are no leases."""
