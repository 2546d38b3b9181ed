"""An upstream worker in front of vLLM's own server: it says by chat completions what vLLM says by its own APIs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import anthropic
import openai
import pytest
import uvicorn
from tandem_api.inference_service.upstream import UpstreamEndpoint, UpstreamSpec
from tandem_engine.upstream import UpstreamEngine

from tests.surfaces.transport import Transport
from tests.vllm_engine.conftest import module
from tests.vllm_engine.engines import MODEL, Pair
from tests.vllm_engine.oracle import vllm_app
from tests.vllm_engine.test_surfaces import ASK, ASKS, GREEDY, RESPOND, RESPONDS, both, both_responses, output, plain

pytestmark = pytest.mark.vllm


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@module
async def url(pair: Pair) -> AsyncIterator[str]:
    """VLLM's server, listening."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # for clients that come before the server does
        app = await vllm_app(pair.decode)
        server = _Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=600))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


@module
async def upstream(url: str) -> AsyncIterator[UpstreamEngine]:
    spec = UpstreamSpec(endpoints=(UpstreamEndpoint(label="vllm", url=url, model=MODEL),))
    async with UpstreamEngine(spec, MODEL, max_tokens=64, environment={}) as engine:
        yield engine


ALIKE = ("text", "system", "tool", "any", "result")
"""The others think within bounds, which are vLLM's own."""


@pytest.mark.parametrize("name", ALIKE)
async def test_messages_by_chat_are_vllms_messages(url: str, upstream: UpstreamEngine, name: str) -> None:
    asked = {**ASK, **ASKS[name]}
    ours = await both(Transport(upstream.generate), **asked)
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        theirs = await client.messages.create(**asked, extra_body=GREEDY)
    # A signature is vLLM's, and ids of calls are drawn.
    assert plain(ours)[1:] == plain(theirs)[1:]
    assert [b.to_dict() | {"id": ""} for b in ours.content] == [b.to_dict() | {"id": ""} for b in theirs.content]
    assert ours.usage.input_tokens + (ours.usage.cache_read_input_tokens or 0) == theirs.usage.input_tokens + (
        theirs.usage.cache_read_input_tokens or 0
    )


@pytest.mark.parametrize("name", ["text", "instructions", "results"])
async def test_responses_by_chat_are_vllms_responses(url: str, upstream: UpstreamEngine, name: str) -> None:
    asked = {**RESPOND, **RESPONDS[name]}
    ours = await both_responses(Transport(upstream.generate), **asked)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        theirs = await client.responses.create(**asked)
    assert output(ours) == output(theirs)
    assert (ours.status, ours.usage.total_tokens) == (theirs.status, theirs.usage.total_tokens)


async def test_tokens_are_counted_by_the_server(upstream: UpstreamEngine) -> None:
    client = Transport(upstream.generate).claude
    counted = await client.messages.count_tokens(model=MODEL, messages=ASK["messages"])
    used = (await client.messages.create(**ASK)).usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)
