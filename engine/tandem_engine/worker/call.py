"""One call of a session, from its Submit to the last event: body, deadline, engine, errors.

Whatever the engine does, a call ends with exactly one Finished or Failed, or, where it was cancelled, with nothing:
its router does not listen any more. What a client may not see goes to the log, beside the response id.
"""

import asyncio
import logging

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine import tracing
from tandem_engine.engine import Call, Outcome
from tandem_engine.errors import CallError, DeadlineExceeded, InvalidRequest, RequestTooLarge
from tandem_engine.worker.outbox import Lane
from tandem_engine.worker.sending import Sender
from tandem_engine.worker.state import WorkerState

BODY_SECONDS = 30.0
"""How long the pieces of a body may take to arrive."""
MAX_TEXT = 2_000
"""Characters of an error's text."""
KNOWN_APIS = frozenset(pb.Api.values()) - {pb.API_UNSPECIFIED}

log = logging.getLogger(__name__)


class OpenCall:
    """A call while it is open. The session runs it as a task and hands it the pieces of its body."""

    def __init__(self, submit: pb.Submit, sender: Sender, state: WorkerState) -> None:
        self.lane = Lane(submit.call_id)
        self._submit = submit
        self._sender = sender
        self._state = state
        self._since = state.clock()
        self._first_data: float | None = None
        self._parts = [submit.body]
        self._missing = (submit.body_bytes or len(submit.body)) - len(submit.body)
        self._whole = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed = False

    def start(self, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        self._task = group.create_task(self._run())
        self._task.add_done_callback(self._ended)
        return self._task

    def piece(self, data: bytes) -> None:
        """A further piece of the body. What is more than was announced is counted, not kept."""
        self._missing -= len(data)
        if self._missing >= 0:
            self._parts.append(data)
        if self._missing <= 0:
            self._whole.set()

    def cancel(self) -> None:
        """Its router has given it up: nothing more is said."""
        if isinstance(self.lane.end, pb.Finished):  # it has just ended: nobody will ever hear of the lease
            self._state.release(self.lane.end.kv.lease)
        self._sender.outbox.drop(self.lane)
        if self._task is not None:
            self._task.cancel()

    def stop(self, error: CallError) -> None:
        """Ends it with an error that its router is told."""
        self._fail(error)
        if self._task is not None:
            self._task.cancel()

    # ---- the engine's Reply

    def started(self, status: int, content_type: str, content_bytes: int, kv: pb.KvReport) -> None:
        self._state.metrics.kv(kv)
        self._sender.started(
            self.lane,
            pb.Started(
                call_id=self.lane.call_id,
                status=status,
                content_type=content_type,
                content_bytes=content_bytes,
                kv=kv,
            ),
        )

    def data(self, chunk: bytes) -> None:
        if self._first_data is None:
            self._first_data = self._state.clock()
        self._sender.data(self.lane, chunk)

    # ----

    async def _run(self) -> None:
        try:
            with self._state.place():
                outcome = await self._within_deadline()
        except CallError as error:
            self._fail(error)
        except asyncio.CancelledError as error:
            if self._task is None or self._task.cancelling():
                raise
            # Nobody cancelled this call: something inside of the engine was, and it must not end in silence.
            self._fail(_internal(error))
        except Exception as error:  # the seam: whatever the engine does, the session and its other calls go on
            self._fail(_internal(error))
        else:
            self._finish(outcome)

    async def _within_deadline(self) -> Outcome:
        limit = self._submit.time_left_ms / 1000 or None
        try:
            async with asyncio.timeout(limit) as scope:
                return await self._answer()
        except TimeoutError as error:
            if scope.expired():
                raise DeadlineExceeded("The request's time is over.") from error
            raise

    async def _answer(self) -> Outcome:
        submit, state = self._submit, self._state
        if submit.api not in KNOWN_APIS:
            raise InvalidRequest(f"This worker does not know API {submit.api} of the worker protocol.")
        body = await self._body()
        parent = tracing.headers(submit.traceparent, submit.tracestate)
        with tracing.span(state.config.role, parent, response_id=submit.response_id) as trace:
            call = Call(
                response_id=submit.response_id,
                api=submit.api,
                body=body,
                kv=submit.kv if submit.HasField("kv") else None,
                whole_reason=submit.whole_reason,
                priority=submit.priority,
                tenant=submit.tenant,
                trace=trace,
            )
            return await state.role.answer(state.engine, call, self)

    async def _body(self) -> bytes:
        total, limit = max(self._submit.body_bytes, len(self._submit.body)), self._state.config.max_body_bytes
        if total > limit:
            raise RequestTooLarge(f"The request has {total:,} bytes; at most {limit:,} are allowed.")
        if self._missing > 0:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    await self._whole.wait()
            except TimeoutError as error:
                raise DeadlineExceeded(f"The request's body did not arrive within {BODY_SECONDS:g} s.") from error
        if self._missing < 0:
            raise InvalidRequest(f"The request's body has more than the {total:,} bytes that were announced.")
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return body

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and not self._failed:
            self._state.metrics.call_ended("cancelled")

    def _finish(self, outcome: Outcome) -> None:
        if self.lane.closed:  # cancelled as it finished: nobody will ever hear of the lease
            if outcome.kv is not None:
                self._state.release(outcome.kv.lease)
            return
        timings = pb.Timings()
        timings.CopyFrom(outcome.timings)
        now = self._state.clock()
        timings.total_micros = timings.total_micros or round((now - self._since) * 1e6)
        if not timings.first_token_micros:
            timings.first_token_micros = round(((self._first_data or now) - self._since) * 1e6)
        finished = pb.Finished(
            call_id=self.lane.call_id,
            usage=outcome.usage,
            finish_reason=outcome.finish_reason,
            timings=timings,
            kv=outcome.kv,
            whole_reason=outcome.whole_reason,
        )
        if outcome.whole_reason:
            self._state.metrics.kv(pb.KvReport(outcome=pb.KvReport.WHOLE, reason=outcome.whole_reason))
            self._state.metrics.call_ended("whole")
        else:
            self._state.metrics.call_finished(outcome.usage, timings)
        self._sender.end(self.lane, finished)

    def _fail(self, error: CallError) -> None:
        if self.lane.closed:
            return
        self._failed = True
        code = pb.ErrorCode.Name(error.code)
        self._state.metrics.call_ended(code.lower())
        fields = {"response_id": self._submit.response_id, "code": code}
        if error.code == pb.INTERNAL:
            log.error("call failed", extra=fields, exc_info=error.__cause__ or error)
        elif error.__cause__ is not None:
            log.warning("call failed: %s", error.message, extra=fields, exc_info=error.__cause__)
        else:
            log.info("call failed: %s", error.message[:MAX_TEXT], extra=fields)
        self._sender.end(
            self.lane,
            pb.Failed(
                call_id=self.lane.call_id,
                code=error.code,
                message=error.message[:MAX_TEXT],
                param=error.param[:MAX_TEXT],
                type=error.type[:MAX_TEXT],
            ),
        )


def _internal(cause: BaseException) -> CallError:
    error = CallError("The engine failed to answer this request. Its log has the reason.")
    error.__cause__ = cause
    return error
