"""What makes a worker a prefill worker: calls end with a KV handle, and leases can be handed on and released."""

from tandem_engine.engine import Call, Engine, Outcome, Reply
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2


class PrefillRole:
    """Implements `tandem_engine.worker.Role`."""

    kind = worker_pb2.ROLE_PREFILL
    service = worker_pb2.DESCRIPTOR.services_by_name["PrefillWorker"].full_name

    async def answer(self, engine: Engine, call: Call, reply: Reply) -> Outcome:
        return await engine.prefill(call)

    async def hand_on(self, engine: Engine, lease: bytes) -> kv_pb2.KvHandle:
        return await engine.hand_on(lease)

    def release(self, engine: Engine, lease: bytes) -> None:
        engine.release(lease)
