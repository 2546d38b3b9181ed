"""`tandem mock` as people start it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.loopback import free_port
from tests.router.house import answers
from tests.virtual_models.asking import request


@asynccontextmanager
async def mocking(*argv: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_cli", "mock", "--port", str(port), *argv, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await answers(client, "/readyz", 200, 60)
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_mock_serves_virtual_models_until_it_is_interrupted(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models: [{id: mine, content: My own.}]")
    async with mocking("--models", str(models)) as (process, client):
        for path in ("/v1/messages", "/virtual/v1/messages"):
            answer = await client.post(path, json=request("messages", "mine"))
            assert answer.json()["content"] == [{"type": "text", "text": "My own."}]
        failed = await client.post("/v1/chat/completions", json=request("chat", "virtual-fail-503"))
        assert failed.status_code == 503
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_mock_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("models: [{id: mine, delay: 5}]")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_cli", "mock", "--models", str(models), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"models[0].delay: found 5: must be a duration" in errors
