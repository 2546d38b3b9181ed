"""The worker protocol's gRPC service: Session, Describe and Drain, the same for both roles but for its name."""

import asyncio
from importlib.metadata import version

import grpc
import grpc.aio
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.engine import Counters
from tandem_engine.errors import Unavailable
from tandem_engine.worker.session import Session
from tandem_engine.worker.state import WorkerState

COUNT_SECONDS = 5.0
"""How long an engine may take to count what it holds."""


class WorkerServicer:
    """Serves one worker's state over gRPC."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._release = version("tandem-serving")

    def handler(self) -> grpc.GenericRpcHandler:
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            self._state.role.service,
            {
                "Session": grpc.stream_stream_rpc_method_handler(
                    self.session, pb.Upward.FromString, pb.Downward.SerializeToString
                ),
                "Describe": grpc.unary_unary_rpc_method_handler(
                    self.describe, pb.DescribeRequest.FromString, pb.DescribeResponse.SerializeToString
                ),
                "Drain": grpc.unary_unary_rpc_method_handler(
                    self.drain, pb.DrainRequest.FromString, pb.DrainResponse.SerializeToString
                ),
            },
        )

    async def session(self, _: object, context: grpc.aio.ServicerContext[pb.Upward, pb.Downward]) -> None:
        await Session(self._state, context).run()

    async def describe(
        self, _: pb.DescribeRequest, context: grpc.aio.ServicerContext[pb.DescribeRequest, pb.DescribeResponse]
    ) -> pb.DescribeResponse:
        state = self._state
        counters = Counters()
        if state.facts is not None:
            try:
                async with asyncio.timeout(COUNT_SECONDS):
                    counters = await state.engine.counters()
            except (TimeoutError, Unavailable):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine does not answer")
        return pb.DescribeResponse(
            worker=state.identity,
            layout=None if state.facts is None else state.facts.layout,
            limits=state.limits(),
            load=state.load(counters),
            release=self._release,
            engine="" if state.facts is None else state.facts.name,
            counters={
                **counters.extra,
                "open_calls": state.open_calls,
                "outbox_bytes": sum(session.outbox_bytes for session in state.sessions),
                "running": counters.running,
                "waiting": counters.waiting,
                "leases": counters.leases,
                "staged_bytes": counters.staged_bytes,
                "fetches": counters.fetches,
                "free_blocks": counters.free_blocks,
            },
            totals={
                **state.totals(),
                "frames": state.tally.frames,
                "events": state.tally.events,
                "data_bytes": state.tally.bytes,
            },
            sessions=sorted(session.router for session in state.sessions),
        )

    async def drain(
        self, _: pb.DrainRequest, context: grpc.aio.ServicerContext[pb.DrainRequest, pb.DrainResponse]
    ) -> pb.DrainResponse:
        self._state.drain()
        return pb.DrainResponse(open_calls=self._state.open_calls, leases=self._state.last_count().leases)
