"""The official clients in front of engines, without a router: what a call says becomes the HTTP response."""

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from tandem_api.anthropic import errors as anthropic_errors
from tandem_api.openai import errors as openai_errors
from tandem_engine.engine import Call
from tandem_engine.errors import CallError
from tandem_proto.tandem.v1 import worker_pb2


@dataclass
class Recorder:
    """A Reply that keeps all."""

    status: int = 0
    content_type: str = ""
    content_bytes: int = 0
    kv: worker_pb2.KvReport = field(default_factory=worker_pb2.KvReport)
    chunks: list[bytes] = field(default_factory=list)
    on_started: Callable[[], None] = lambda: None
    on_data: Callable[[], None] = lambda: None

    def started(self, status: int, content_type: str, content_bytes: int, kv: worker_pb2.KvReport) -> None:
        assert not self.status, "started twice"
        self.status, self.content_type, self.content_bytes, self.kv = status, content_type, content_bytes, kv
        self.on_started()

    def data(self, chunk: bytes) -> None:
        assert self.status, "data before started"
        self.chunks.append(chunk)
        self.on_data()

    @property
    def json(self) -> Any:
        body = b"".join(self.chunks)
        assert self.content_bytes in (0, len(body))
        return json.loads(body)

    @property
    def events(self) -> list[Any]:
        """Of a stream; the last one must be [DONE]."""
        lines = b"".join(self.chunks).decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


Answering = Callable[[Call, Recorder], Awaitable[object]]

APIS = {
    "/v1/messages": (worker_pb2.API_MESSAGES, "msg_"),
    "/v1/messages/count_tokens": (worker_pb2.API_COUNT_TOKENS, "msgcount_"),
    "/v1/responses": (worker_pb2.API_RESPONSES, "resp_"),
    "/v1/chat/completions": (worker_pb2.API_CHAT_COMPLETIONS, "chatcmpl-"),
}


class Transport:
    """An ASGI application that has calls answered; `replies` are all answers so far."""

    def __init__(self, answering: Answering) -> None:
        self.replies: list[Recorder] = []
        self._answering = answering
        self._ids = itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        api, prefix = APIS[scope["path"]]
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status, kind, content = await self._answer(Call(f"{prefix}{next(self._ids)}", api, body), prefix)
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, call: Call, prefix: str) -> tuple[int, str, bytes]:
        reply = Recorder()
        try:
            await self._answering(call, reply)
        except CallError as error:
            errors = anthropic_errors if prefix.startswith("msg") else openai_errors
            status, body = errors.failure_body(worker_pb2.ErrorCode.Name(error.code), error.message)
            return status, "application/json", body
        self.replies.append(reply)
        return reply.status, reply.content_type, b"".join(reply.chunks)

    @property
    def claude(self) -> anthropic.AsyncAnthropic:
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(self))
        return anthropic.AsyncAnthropic(base_url="http://engine", api_key="k", max_retries=0, http_client=client)

    @property
    def gpt(self) -> openai.AsyncOpenAI:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(self))
        return openai.AsyncOpenAI(base_url="http://engine/v1", api_key="k", max_retries=0, http_client=client)
