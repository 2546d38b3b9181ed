"""What makes a worker a decode worker: calls are answered in the API's wire format, and no leases are held."""

from tandem_engine.engine import Call, Engine, Outcome, Reply
from tandem_engine.errors import KvGone
from tandem_proto.tandem.v1 import kv_pb2, worker_pb2


class DecodeRole:
    """Implements `tandem_engine.worker.Role`."""

    kind = worker_pb2.ROLE_DECODE
    service = worker_pb2.DESCRIPTOR.services_by_name["DecodeWorker"].full_name

    async def answer(self, engine: Engine, call: Call, reply: Reply) -> Outcome:
        return await engine.generate(call, reply)

    async def hand_on(self, engine: Engine, lease: bytes) -> kv_pb2.KvHandle:
        raise KvGone("A decode worker holds no leases.")

    def release(self, engine: Engine, lease: bytes) -> None:
        """There is nothing to release."""
