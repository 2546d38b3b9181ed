"""The upstream engine: each call goes to one of some servers, and its answer comes back under our name.

A call that no server took is tried again, elsewhere first, after a while then. Once a byte of an answer has come, it is
never tried again: a client would get two beginnings.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random, SystemRandom
from types import TracebackType
from typing import Final, Self

import aiohttp
from tandem_api.inference_service.upstream import UpstreamSpec
from tandem_api.openai.answers import JSON_TYPE, STREAM_TYPE
from tandem_api.worker import WorkerConfig
from tandem_proto.protocol import PIECE_BYTES
from tandem_proto.tandem.v1 import worker_pb2 as pb

from tandem_engine.engine import Call, Counters, Outcome, Reply
from tandem_engine.errors import CallError, InvalidRequest, Unavailable
from tandem_engine.upstream.answers import Answering
from tandem_engine.upstream.endpoints import Endpoint, choose, endpoints_of, probe_all
from tandem_engine.upstream.failures import Refused, refused, silent, unreachable
from tandem_engine.upstream.requests import Asked, read
from tandem_engine.without_kv import WithoutKv, facts_without_kv

MAX_ERROR: Final = 64 * 1024
"""Bytes that are read of an error."""
MAX_ANSWER: Final = 64 * 2**20

log = logging.getLogger(__name__)


class UpstreamEngine(WithoutKv):
    """An `Engine` of a decode worker; prompts are computed by the servers it asks.

    Args:
        spec: the servers.
        model: the name that clients use.
        max_tokens: the platform's cap of a request's limits of tokens.
        environment: holds the keys.
        sleep: waits some seconds.
        random: draws how much of a delay is left out.
        now: Unix seconds.

    Raises:
        ValueError: a key is missing.
    """

    def __init__(
        self,
        spec: UpstreamSpec,
        model: str,
        *,
        max_tokens: int,
        environment: Mapping[str, str],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Random | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._spec = spec
        self._model = model
        self._max_tokens = max_tokens
        self._endpoints = endpoints_of(spec.endpoints, environment)
        self._sleep = sleep
        self._random = random or SystemRandom()
        self._now = now
        self._places = asyncio.Semaphore(spec.max_in_flight)
        self._running = self._waiting = 0
        self._calls = self._retries = self._failures = 0
        self._open = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self.facts = facts_without_kv("upstream", spec.max_in_flight)

    @classmethod
    def from_config(cls, config: WorkerConfig) -> Self:
        """The engine that a worker's configuration describes; keys come from this process's environment."""
        if config.role != "decode":
            raise ValueError("the upstream engine is one of decode workers: its servers compute prompts themselves")
        assert config.engine.upstream is not None
        return cls(config.engine.upstream, config.model, max_tokens=config.max_tokens, environment=os.environ)

    async def __aenter__(self) -> Self:
        """Opens connections as they are needed, and looks at the endpoints from time to time."""
        async with AsyncExitStack() as opening:
            timeout = aiohttp.ClientTimeout(sock_connect=self._spec.connect_timeout, sock_read=self._spec.read_timeout)
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            session = aiohttp.ClientSession(connector=connector, timeout=timeout)
            self._session = await opening.enter_async_context(session)
            await probe_all(self._session, self._endpoints)
            probing = asyncio.create_task(self._probe_for_ever(self._session))
            opening.push_async_callback(_ended, probing)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._open.__aexit__(exc_type, exc, tb)

    async def counters(self) -> Counters:
        return self.load()

    def load(self) -> Counters:
        return Counters(running=self._running, waiting=self._waiting)

    def totals(self) -> Mapping[str, int]:
        return {
            "upstream_calls": self._calls,
            "upstream_retries": self._retries,
            "upstream_failures": self._failures,
        }

    async def check(self) -> None:
        if not any(endpoint.up for endpoint in self._endpoints):
            why = "; ".join(f"{endpoint.spec.label}: {endpoint.why}" for endpoint in self._endpoints)
            raise Unavailable(f"no upstream can be asked: {why}")

    async def generate(self, call: Call, reply: Reply) -> Outcome:
        """See `Engine.generate`."""
        asked = read(call, self._model, self._max_tokens)
        answering = Answering(asked, self._model, call.response_id, int(self._now()))
        async with self._place(), self._taken(asked) as (endpoint, response):
            try:
                if asked.stream:
                    await _relay(response, answering, reply)
                else:
                    await _hand_over(response, answering, endpoint, reply)
            except TimeoutError as error:
                raise Unavailable("The upstream fell silent in the midst of its answer.") from error
            except (aiohttp.ClientError, OSError) as error:
                raise Unavailable("The upstream broke its answer off.") from error
        return Outcome(answering.usage, finish_reason=answering.finish_reason)

    # ---- who answers

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._places.release()

    @asynccontextmanager
    async def _taken(self, asked: Asked) -> AsyncIterator[tuple[Endpoint, aiohttp.ClientResponse]]:
        """The answer of the first server that takes the call; it begins with the status 200."""
        async with AsyncExitStack() as held:
            endpoint, response = await self._ask_until_taken(asked, held)
            yield endpoint, response

    async def _ask_until_taken(self, asked: Asked, held: AsyncExitStack) -> tuple[Endpoint, aiohttp.ClientResponse]:
        retries, tried = self._spec.retries, list[Endpoint]()
        while True:
            endpoint = choose(self._endpoints, tried, embeds=asked.embeds)
            if endpoint is None:
                what = "embeddings" if asked.embeds else "chat"
                raise InvalidRequest(f"no upstream of the model {self._model} serves {what}")
            tried.append(endpoint)
            self._calls += 1
            try:
                async with AsyncExitStack() as trying:
                    response = await trying.enter_async_context(self._asking(endpoint, asked))
                    await held.enter_async_context(trying.pop_all())
                    return endpoint, response
            except Refused as refusal:
                if not refusal.again or len(tried) >= retries.attempts:
                    self._failures += 1
                    raise refusal.error from refusal
                log.info("tried again: %s", refusal)
                self._retries += 1
                following = choose(self._endpoints, tried, embeds=asked.embeds)
                if following is not None and following in tried:
                    await self._sleep(self._delay(tried.count(following), refusal.after))

    def _delay(self, round: int, after: float) -> float:
        """Before the endpoints are tried another time; at least what the server asked for, up to the limit."""
        retries = self._spec.retries
        drawn = min(retries.first_delay * 2 ** (round - 1), retries.max_delay) * self._random.uniform(0.5, 1.0)
        return float(min(max(drawn, after), retries.max_delay))

    @asynccontextmanager
    async def _asking(self, endpoint: Endpoint, asked: Asked) -> AsyncIterator[aiohttp.ClientResponse]:
        """One try.

        Raises:
            Refused: the server did not take the call.
        """
        assert self._session is not None
        label = endpoint.spec.label
        headers = {"Content-Type": "application/json", **endpoint.headers}
        request = self._session.post(
            endpoint.url(asked.path), data=asked.to(endpoint.spec.model), headers=headers, allow_redirects=False
        )
        endpoint.under_way += 1
        try:
            async with AsyncExitStack() as held:
                try:
                    response = await held.enter_async_context(request)
                    if response.status != 200:
                        words = await response.content.read(MAX_ERROR)
                        raise refused(label, response.status, response.headers, words, counting=asked.counts)
                except aiohttp.ConnectionTimeoutError:
                    raise unreachable(label, "no connection in time") from None
                except TimeoutError:
                    raise silent(label) from None
                except (aiohttp.ClientError, OSError) as error:
                    raise unreachable(label, type(error).__name__) from None
                yield response
        finally:
            endpoint.under_way -= 1

    async def _probe_for_ever(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._sleep(self._spec.probe_interval)
            await probe_all(session, self._endpoints)


async def _relay(response: aiohttp.ClientResponse, answering: Answering, reply: Reply) -> None:
    """A stream, event by event. It begins with its first event, so that an answer without any is an error response."""
    began = False
    async for data in response.content.iter_any():
        for event in answering.events(data):
            if not began:
                began = True
                reply.started(200, STREAM_TYPE, 0, pb.KvReport())
            reply.data(event)
    if not answering.over:
        raise CallError("The upstream ended its stream before the end.")


async def _hand_over(response: aiohttp.ClientResponse, answering: Answering, endpoint: Endpoint, reply: Reply) -> None:
    parts, size = [], 0
    async for data in response.content.iter_any():
        parts.append(data)
        size += len(data)
        if size > MAX_ANSWER:
            raise Unavailable("The upstream's answer is too long.")
    body = answering.whole(b"".join(parts), endpoint.spec.dimension)
    reply.started(200, JSON_TYPE, len(body), pb.KvReport())
    for at in range(0, len(body), PIECE_BYTES):
        reply.data(body[at : at + PIECE_BYTES])


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
