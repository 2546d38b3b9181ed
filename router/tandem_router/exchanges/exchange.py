"""One request, from the choice of its workers to the last byte of its answer, on every path that it may take.

What a request lacks decides what comes next: places, the prompt's KV, an answer. A failure takes away what it made
worthless, and the same loop goes on with what is left:

- prefill fails: its place is given back, another worker tries;
- decode fails before its first byte: another worker tries, with the KV handed on where the lease still stands, and
  with KV computed again where not;
- decode fails after that: the stream ends with a typed error event.

Whatever way a request ends, `_give_back` returns all that it holds. That, the deadline and the client's going away are
in `run` and nowhere else.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec
from tandem_proto.tandem.v1 import kv_pb2
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.exchanges.legs import Answer, Waiting
from tandem_router.failures import FINAL, CallFailed
from tandem_router.frontends.clients import Client, Headers
from tandem_router.frontends.parsing import Frontend
from tandem_router.scheduling.fleet import Version
from tandem_router.scheduling.pairing import Demand, NoWorker
from tandem_router.scheduling.worker import Lease, Place, Worker
from tandem_router.telemetry.record import Record
from tandem_router.telemetry.tracing import Span

_OUTCOMES: Final = {number: name.lower() for name, number in pb.KvReport.Outcome.items() if number}
ATTEMPTS: Final = 4
"""Of one role, the first included."""
REFUSALS: Final = 8
"""By workers that are full: so often a request asks again, of both roles together."""


class Request(msgspec.Struct, frozen=True):
    """What came from a client, as far as the exchange needs it."""

    frontend: Frontend
    body: bytes
    prompt: bytes
    """The prompt's JSON; empty where nothing asks for it."""
    response_id: str
    tenant: str = ""


class Frame(Protocol):
    """What is around an answer: what only its frontend knows."""

    def headers_of(self, content_type: str, stream: bool) -> Headers:
        """Of an answer that begins."""

    def failure_event(self, failure: CallFailed) -> bytes:
        """The last events of a stream that fails."""


class Exchange:
    """State of one request. `record` holds what happened when `run` has returned."""

    def __init__(
        self,
        request: Request,
        version: Version,
        client: Client,
        record: Record,
        span: Span,
        frame: Frame,
        clock: Callable[[], float],
    ) -> None:
        self.record = record
        self._request = request
        self._version = version
        self._client = client
        self._span = span
        self._frame = frame
        self._clock = clock
        self._deadline = record.received + version.service.routing.request_timeout
        self._demand = Demand(prompt=request.prompt, feature=request.frontend.feature)
        self._decode: Place | None = None
        self._prefill: Place | None = None
        self._kv: Lease | None = None
        self._whole_reason = ""
        self._failures = {"prefill": 0, "decode": 0}
        self._refusals = 0
        self._placed: float | None = None
        """When it first had places: what it waited for those is no fault of a worker that is full then."""
        self._last: CallFailed | None = None
        self._answer: Answer | None = None
        self._limit: asyncio.Timeout | None = None
        self._stopped: CallFailed | None = None

    async def run(self) -> CallFailed | None:
        """Answers the request; the failure it ended in, if the client has not been told of it.

        Never raises but for a cancel from outside.
        """
        try:
            async with asyncio.timeout(self._deadline - self._clock()) as self._limit:
                self._client.watch(self._gone)
                await self._serve()
        except TimeoutError:
            if self._answer is not None and self._answer.complete:
                return None
            failure = self._stopped or CallFailed(
                pb.DEADLINE_EXCEEDED, "the request took longer than the service's requestTimeout"
            )
        except CallFailed as error:
            failure = error.told()
        else:
            return None
        finally:
            began = self._answer is not None and self._answer.began
            # The two refer to each other.
            self._limit = self._answer = None
            self._give_back()
            self.record.finished = self._clock()
        self.record.error = failure.reason
        if not began:
            return failure
        # A stream that had begun. Its own failure has been told; one of the deadline or of a stop has not.
        self.record.cut = True
        self._client.fail(self._frame.failure_event(failure))
        return None

    def stop(self, failure: CallFailed) -> None:
        """Ends the request, wherever it is, with `failure`."""
        self._stopped = self._stopped or failure
        if self._limit is not None:
            self._limit.reschedule(0)

    def _gone(self, why: Literal["closed", "slow"]) -> None:
        self.record.slow_client = why == "slow"
        self.stop(CallFailed(pb.CANCELLED, "the client went away", reason=f"client_{why}"))

    # ---- what a request lacks, until it lacks nothing

    async def _serve(self) -> None:
        while True:
            await self._take_places()
            if self._prefill is not None and not await self._run_prefill(self._prefill):
                continue
            if self._kv is not None and self._kv.spent and not await self._hand_on(self._kv):
                continue
            if self._decode is not None and await self._run_decode(self._decode):
                return

    async def _take_places(self) -> None:
        demand = self._demand
        demand.decode = self._decode is None
        alone = self._request.frontend.decodes_alone or self._whole_reason
        demand.prefill = self._prefill is None and self._kv is None and not alone
        if not demand.decode and not demand.prefill:
            return
        asked = self._clock()
        if self._version.held and not self._version.ready:
            self.record.held = True
        try:
            with self._span.child("queue"):
                grant = await self._version.queue.take(demand, again=self._last is not None)
        except NoWorker:
            self._start_over()
            return
        finally:
            self.record.queued += self._clock() - asked
        self._placed = self._placed or self._clock()
        demand.revision = grant.revision
        self._decode = grant.decode or self._decode
        self._prefill = grant.prefill or self._prefill
        self._whole_reason = grant.whole_reason or self._whole_reason

    def _start_over(self) -> None:
        """No worker is left that fits what the request holds: it takes another revision, or fails."""
        if self._demand.revision is None:
            raise self._last or self._version.no_worker(self._request.frontend.path, self._demand.feature)
        self._give_back()
        self._demand.revision = None
        self._whole_reason = ""

    async def _run_prefill(self, place: Place) -> bool:
        """Gets the prompt's KV computed; False where that has to be tried elsewhere."""
        worker, began = place.worker, self._clock()
        with self._span.child("prefill") as span, Waiting(worker.link) as leg:
            try:
                finished = await leg.submit(self._submit(span), self._request.body)
            except CallFailed as failure:
                span.fail(failure.reason)
                self._try_elsewhere("prefill", worker, failure)
                return False
            finally:
                # Given back when prefill is over, not when decode is.
                place.close()
                self._prefill = None
        worker.succeeded()
        self.record.prefill_worker = worker.name
        self._whole_reason = finished.whole_reason
        if finished.HasField("kv"):
            self.record.prefill = self._clock() - began
            self._kv = Lease(worker, finished.kv)
        elif not self._whole_reason:
            self._whole_reason = "no_handle"
        return True

    async def _hand_on(self, kv: Lease) -> bool:
        """Makes the handle unknown to the decode worker that had it; False where the KV is gone."""
        with Waiting(kv.worker.link) as leg:
            try:
                kv.renewed((await leg.hand_on(kv.handle.lease)).kv)
            except CallFailed as failure:
                self.record.retries.append(("prefill", failure.reason))
                kv.forget()
                self._kv = None
                return False
        return True

    async def _run_decode(self, place: Place) -> bool:
        """Gets the request answered; False where that has to be tried elsewhere."""
        worker = place.worker
        self.record.decode_worker = worker.name
        with self._span.child("decode") as span, self._answering(worker) as answer:
            submit = self._submit(span, self._kv.handle if self._kv else None)
            if self._kv is not None:
                self._kv.spent = True
            if self._request.prompt:
                worker.prefixes.add(self._request.prompt)
            try:
                await answer.submit(submit, self._request.body)
            except CallFailed as failure:
                span.fail(failure.reason)
                place.close()
                self._decode = None
                if answer.began:
                    worker.failed(failure)
                    raise
                self._try_elsewhere("decode", worker, failure)
                return False
        worker.succeeded()
        return True

    def _answering(self, worker: Worker) -> Answer:
        self._answer = Answer(worker.link, self._client, self)
        return self._answer

    def _try_elsewhere(self, role: Literal["prefill", "decode"], worker: Worker, failure: CallFailed) -> None:
        """Takes note of a failure.

        Raises:
            CallFailed: another worker would do no better, or enough have tried.
        """
        worker.failed(failure)
        self._last = failure.told()
        full = failure.code == pb.OVERLOADED
        self._refusals += full
        self._failures[role] += not full
        asked_for = self._clock() - (self._placed or self._clock())
        waited_too_long = asked_for >= self._version.queue.routing.queue.timeout
        enough = self._failures[role] >= ATTEMPTS or self._refusals > REFUSALS or waited_too_long
        if failure.code in FINAL or enough:
            raise failure
        self.record.retries.append((role, failure.reason))
        if not full:
            self._demand.excluded.add(worker)
            return
        # A full worker counts as full for a moment. Whoever waits for that keeps no place from others.
        if self._decode is not None:
            self._decode.close()
            self._decode = None
        if self._kv is None and not self._whole_reason:
            self._demand.revision = None

    # ---- what workers are told, and what they tell

    def _submit(self, span: Span, kv: kv_pb2.KvHandle | None = None) -> pb.Submit:
        traceparent, tracestate = span.context
        return pb.Submit(
            response_id=self._request.response_id,
            api=self._request.frontend.api,
            kv=kv,
            whole_reason="" if kv is not None else self._whole_reason,
            time_left_ms=max(1, int((self._deadline - self._clock()) * 1000)),
            tenant=self._request.tenant,
            traceparent=traceparent,
            tracestate=tracestate,
        )

    def started(self, started: pb.Started, streams: bool) -> None:
        """Decode has begun: whatever KV there was has been fetched."""
        if self._kv is not None:
            self._kv.release()
            self._kv = None
        record, kv = self.record, started.kv
        record.status = started.status
        # A worker that knows the length of a whole answer says so at its end: that is not its first token.
        record.ttft = None if streams or started.content_bytes else self._clock() - record.received
        record.kv_outcome, record.kv_reason = _OUTCOMES.get(kv.outcome, ""), kv.reason
        if size := kv.bytes:
            record.kv_bytes, record.kv_blocks, record.kv_seconds = size, kv.blocks, kv.micros / 1e6
            record.kv_connector, record.kv_peer = kv.connector, kv.peer

    def headers(self, content_type: str, streams: bool) -> Headers:
        """The client gets the first of its answer."""
        if streams:
            self.record.ttft = self._clock() - self.record.received
        return self._frame.headers_of(content_type, streams)

    def failure_event(self, failure: CallFailed) -> bytes:
        return self._frame.failure_event(failure)

    def finished(self, finished: pb.Finished) -> None:
        """All of the answer is with the client."""
        record, usage = self.record, finished.usage
        record.prompt_tokens = usage.prompt_tokens
        record.completion_tokens = usage.completion_tokens
        record.finish_reason = finished.finish_reason
        if micros := finished.timings.first_token_micros:
            record.worker_ttft = micros / 1e6

    def _give_back(self) -> None:
        """All that the request holds."""
        for place in (self._prefill, self._decode):
            if place is not None:
                place.close()
        if self._kv is not None:
            self._kv.release()
        self._prefill = self._decode = self._kv = None
