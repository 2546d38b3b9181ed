"""The inference paths: a plain ASGI endpoint that reads a request once and hands it to an exchange.

No pydantic, no response objects, no middleware: a request costs what routing needs, a chunk of its answer nothing
here at all.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_router.access.callers import CALLER, Caller, presented
from tandem_router.exchanges.exchange import Exchange, Request
from tandem_router.exchanges.shadowing import Pair
from tandem_router.experiments.trial import Trial, seen
from tandem_router.failures import CallFailed
from tandem_router.frontends.clients import AsgiClient, Client, Headers, Receive, Scope, Send
from tandem_router.frontends.direct import EXTENSION, DirectClient, body_at_hand
from tandem_router.frontends.parsing import Frontend, InvalidBody, Wanted, estimate_tokens, parse
from tandem_router.frontends.shapes import is_anthropic
from tandem_router.limits.limiter import GRANT, Grant
from tandem_router.router import Router
from tandem_router.scheduling.fleet import Service, Version
from tandem_router.settings import Settings
from tandem_router.telemetry.logs import Access
from tandem_router.telemetry.record import Record

_log = logging.getLogger(__name__)

SECURITY_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"))
NO_STORE: Final = (b"cache-control", b"no-store")
NO_CACHE: Final = (b"cache-control", b"no-cache")
JSON: Final = (b"content-type", b"application/json")

_MAX_REQUEST_ID: Final = 128


def request_id(headers: Mapping[bytes, bytes], entropy: Callable[[int], bytes]) -> str:
    """The client's `X-Request-Id` where it is printable ASCII of a sane length, else a UUID of version 4."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    if given and len(given) <= _MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    drawn = entropy(16).hex()
    # What uuid.UUID(bytes=..., version=4) gives, at a fifth of its cost.
    variant = "89ab"[int(drawn[16], 16) & 3]
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{variant}{drawn[17:20]}-{drawn[20:]}"


def request_id_headers(path: str, id: str) -> Headers:
    """Anthropic's clients look for the id in a header of another name."""
    known = (b"x-request-id", id.encode())
    return (known, (b"request-id", id.encode())) if is_anthropic(path) else (known,)


class Inference:
    """ASGI application of one inference path (POST)."""

    def __init__(self, router: Router, frontend: Frontend) -> None:
        self._router = router
        self._frontend = frontend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        router = self._router
        record = Record(received=router.clock())
        router.measures.active += 1
        try:
            call = _Call(router, self._frontend, scope, record)
            body: bytes | CallFailed
            try:
                body = await read_body(scope, receive, call.headers, router.settings)
            except CallFailed as failure:
                body = failure.told()
            async with self._client(scope, receive, send, call.too_slow) as client:
                await call.answer(body, client)
        finally:
            router.measures.active -= 1
        call.account()

    def _client(self, scope: Scope, receive: Receive, send: Send, slow_end: Callable[[], bytes]) -> Client:
        limit = self._router.settings.max_unsent_bytes
        direct = scope.get("extensions", {}).get(EXTENSION)
        if direct is not None:
            protocol, cycle = direct
            return DirectClient(protocol, cycle, limit, slow_end)
        return AsgiClient(receive, send, limit, slow_end)


class _Call:
    """One request at an inference path: what becomes known of it on the way, for its answer and its accounts."""

    def __init__(self, router: Router, frontend: Frontend, scope: Scope, record: Record) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self._router = router
        self._frontend = frontend
        self._scope = scope
        self._caller: Caller = scope[CALLER]
        self._grant: Grant | None = scope.get(GRANT)
        self._record = record
        direct = scope.get("extensions", {}).get(EXTENSION)
        self._excused = direct is not None and direct[0].excused
        self._request_id = request_id(self.headers, router.entropy)
        self._model = ""
        self._version: Version | None = None
        self._trial: Trial | None = None
        self._pair: Pair | None = None
        self._response_id = ""

    async def answer(self, body: bytes | CallFailed, client: Client) -> None:
        """Answers, whatever happens; an exception nobody foresaw is logged and becomes a plain 500."""
        record = self._record
        try:
            failure = body if isinstance(body, CallFailed) else await self._route(body, client)
        except CallFailed as error:
            failure = error.told()
        except Exception:
            _log.exception("request %s failed", self._request_id)
            failure = CallFailed(pb.INTERNAL, "internal server error")
        if failure is None:
            return
        record.error = record.error or failure.reason
        if client.began:
            record.cut = True
            client.fail(self.failure_event(failure))
            return
        record.status, content = self._frontend.shape.body(failure, self._request_id)
        client.respond(record.status, self._failure_headers(failure), content)

    async def _route(self, body: bytes, client: Client) -> CallFailed | None:
        router = self._router
        if router.draining and not self._excused:
            raise CallFailed(pb.UNAVAILABLE, "the router is shutting down", reason="shutdown")
        try:
            wanted = parse(body)
        except InvalidBody as invalid:
            raise CallFailed(pb.INVALID_REQUEST, invalid.message, param=invalid.param or "") from None
        self._model = wanted.model
        service = router.fleet.services.get(wanted.model)
        if service is None and not router.fleet.known:
            raise CallFailed(pb.UNAVAILABLE, "the router does not know its models yet", reason="no_topology")
        if service is None:
            message = f"The model `{wanted.model}` does not exist"
            raise CallFailed(pb.NOT_FOUND, message, reason="model_not_found", param="model")
        key = self._split_key(service, wanted)
        version = self._version = service.version_for(key)
        if version is None:
            message = f"no worker of the model `{wanted.model}` is ready"
            raise CallFailed(pb.UNAVAILABLE, message, reason="no_worker")
        if service.counting is not None:
            self._trial = service.trial(version, key, sticky=key is not self._request_id)
        origin = version.origin if self._trial is None else self._trial.origin(version.origin)
        self._response_id = router.ids.issue(self._frontend.id_prefix, origin)
        prompt = wanted.prompt_json if service.routing.disaggregate_from else b""
        self._record.estimated_tokens = estimate_tokens(prompt)
        request = Request(self._frontend, body, prompt, self._response_id)
        if service.shadowed:
            self._pair = router.copies.offer(service, version, request, self._request_id)
        name = f"{self._frontend.operation} {wanted.model}"
        with router.tracer.serve(name, self.headers, self._asked) as span:
            exchange = Exchange(request, version, client, self._record, span, self, router.clock)
            router.open.add(exchange)
            try:
                failure = await exchange.run()
            finally:
                router.closed(exchange)
            span.note(self._answered)
            if self._record.error:
                span.fail(self._record.error)
        return failure

    def _split_key(self, service: Service, wanted: Wanted) -> str:
        """What a client keeps its version by; without any, every request is on its own."""
        sticky = service.routing.sticky_by
        keys = (
            sticky.header and self.headers.get(sticky.header.lower().encode("latin-1"), b"").decode("latin-1"),
            sticky.user and wanted.user_name,
            sticky.api_key and (self._caller.id or presented(self._scope["headers"])),
        )
        return next((key for key in keys if key), None) or self._request_id

    # ---- what the exchange can't know

    def failure_event(self, failure: CallFailed) -> bytes:
        return self._frontend.shape.event(failure, self._request_id)

    def too_slow(self) -> bytes:
        """The end of a stream that its client does not read."""
        text = "the client did not read its stream fast enough and was cut off"
        return self.failure_event(CallFailed(pb.CANCELLED, text))

    def headers_of(self, content_type: str, stream: bool) -> Headers:
        headers = [
            (b"content-type", content_type.encode("latin-1")),
            *SECURITY_HEADERS,
            NO_CACHE if stream else NO_STORE,
            *request_id_headers(self._frontend.path, self._request_id),
        ]
        if self._grant is not None:
            headers += self._grant.headers
        if self._router.leaving:
            headers.append((b"connection", b"close"))
        if self._router.settings.server_timing:
            headers.append((b"server-timing", self._record.server_timing().encode("latin-1")))
        return headers

    def _failure_headers(self, failure: CallFailed) -> Headers:
        headers = [JSON, *SECURITY_HEADERS, NO_STORE, *request_id_headers(self._frontend.path, self._request_id)]
        if failure.retry_after is not None:
            headers.append((b"retry-after", str(failure.retry_after).encode()))
        if self._grant is not None:
            headers += self._grant.headers
        if self._router.leaving:
            headers.append((b"connection", b"close"))
        return headers

    # ---- accounts

    def _asked(self) -> Mapping[str, str | int]:
        """Of the server span, by the conventions for generative AI."""
        return {
            "gen_ai.operation.name": self._frontend.operation,
            "gen_ai.request.model": self._model,
            "gen_ai.response.id": self._response_id,
            "http.request.method": "POST",
            "http.route": self._frontend.path,
        }

    def _answered(self) -> Mapping[str, str | int]:
        record = self._record
        return {
            "gen_ai.usage.input_tokens": record.prompt_tokens,
            "gen_ai.usage.output_tokens": record.completion_tokens,
            "tandem.version": self._version.name if self._version else "",
            "tandem.kv.outcome": record.kv_outcome,
            "tandem.kv.bytes": record.kv_bytes,
        }

    def account(self) -> None:
        """Counts the request, and logs it."""
        record, measures = self._record, self._router.measures
        now = self._router.clock()
        seconds = now - record.received
        measures.answered(self._frontend.path, record.status, seconds)
        measures.cut_off += record.slow_client
        if record.cut:
            measures.cut_streams[record.error] += 1
        if record.completion_tokens:
            measures.tokens += record.completion_tokens
            measures.rate.add(record.completion_tokens, seconds)
        used = record.prompt_tokens + record.completion_tokens
        if self._grant is not None and (used or 400 <= record.status != 499):
            self._grant.settle(used)
        if self._version is not None:
            self._version.measures.count(record, seconds)
        if self._trial is not None:
            self._trial.count(record, seconds)
        if self._pair is not None:
            self._pair.answered(seen(record, seconds))
        if self._router.access_log.wants(record.status, record.error):
            self._router.access_log.add(self._access(seconds))

    def _access(self, seconds: float) -> Access:
        record, version = self._record, self._version
        return Access(
            time="",
            level="",
            message="request",
            method=self._scope["method"],
            path=self._scope["raw_path"].decode("ascii", "backslashreplace"),
            status_code=record.status,
            latency_ms=round(seconds * 1000, 1),
            request_id=self._request_id,
            key=self._caller.id,
            response_id=self._response_id,
            model=self._model[:256],
            service=version.service.full_name if version else "",
            version=version.name if version else "",
            prefill_worker=record.prefill_worker,
            decode_worker=record.decode_worker,
            prompt_tokens=record.prompt_tokens,
            completion_tokens=record.completion_tokens,
            finish_reason=record.finish_reason,
            ttft_ms=round(record.ttft * 1000, 1) if record.ttft else 0.0,
            queued_ms=round(record.queued * 1000, 1),
            kv=record.kv_outcome,
            kv_reason=record.kv_reason,
            kv_bytes=record.kv_bytes,
            retries=[f"{role}:{reason}" for role, reason in record.retries],
            error=record.error,
        )


async def read_body(scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], settings: Settings) -> bytes:
    """The whole body.

    Raises:
        CallFailed: it is too large, or does not come in time, or the client goes away.
    """
    limit, seconds = settings.max_body_bytes, settings.body_timeout
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    direct = scope.get("extensions", {}).get(EXTENSION)
    if direct is not None and (at_hand := body_at_hand(direct[1])) is not None:
        return at_hand
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise CallFailed(pb.CANCELLED, "the client went away", reason="client_closed")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise _too_large(limit)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise CallFailed(pb.INVALID_REQUEST, f"the request body did not come within {seconds:g} s") from None


def _too_large(limit: int) -> CallFailed:
    return CallFailed(pb.REQUEST_TOO_LARGE, f"request body too large: at most {limit} bytes are allowed")
