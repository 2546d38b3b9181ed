"""vLLM's own server, in this process and on an engine that is also ours: what it answers is what a worker has to."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from tandem_engine.vllm import VllmEngine

VARYING = ("id", "created", "system_fingerprint", "kv_transfer_params")


class Oracle:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def answer(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = await self._client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return comparable(answer.json())

    async def stream(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = await self._client.post(path, json={**body, "stream": True})
        assert answer.status_code == 200, answer.text
        *events, done, rest = answer.text.split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        return joined([json.loads(event.removeprefix("data: ")) for event in events])

    async def error(self, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
        answer = await self._client.post(path, json=body)
        return answer.status_code, answer.json()["error"]["message"]


async def vllm_app(engine: VllmEngine) -> Any:
    """The server's ASGI application, on a started engine."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    client, args = engine._serving.engine, engine._serving._args
    tasks = await client.get_supported_tasks()
    app = build_app(args, tasks, client.vllm_config.model_config)
    await init_app_state(client, app.state, args, tasks)
    return app


@asynccontextmanager
async def vllm_server(engine: VllmEngine) -> AsyncIterator[Oracle]:
    """The server without a socket."""
    transport = httpx.ASGITransport(await vllm_app(engine))
    async with httpx.AsyncClient(transport=transport, base_url="http://vllm", timeout=60) as http:
        yield Oracle(http)


def comparable(value: Any) -> Any:
    """Without ids and times."""
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items() if name not in VARYING}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return value


def joined(events: list[Any]) -> Any:
    """A stream put together: all that its events say of each choice, and of the whole.

    Which event says what is a matter of steps: one that comes late has the tokens of two.
    """
    whole: dict[str, Any] = {"choices": {}}
    for event in comparable(events):
        for choice in event.pop("choices"):
            _add(whole["choices"].setdefault(choice.pop("index"), {}), choice)
        whole |= event
    return whole


def _add(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, dict):
            if not whole.get(name):
                whole[name] = {}
            _add(whole[name], value)
        elif name == "tool_calls":
            calls = whole.setdefault(name, {})
            for call in value:
                _add(calls.setdefault(call["index"], {}), {key: each for key, each in call.items() if key != "index"})
        elif isinstance(value, list | str) and whole.get(name) and name not in ("role", "type"):
            whole[name] += value
        else:
            whole[name] = value
