"""A router as people start it: its command line, and its end."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tandem_api.inference_service import RoutingSpec

from tests.loopback import free_port
from tests.router.fake_worker import FakeCall, FakeWorker, decode_well, words
from tests.router.house import CHAT, STREAM, answers, fake, topology_of


@asynccontextmanager
async def routing(
    folder: Path, worker: FakeWorker, *argv: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    topology = folder / "topology.json"
    topology.write_text(topology_of([worker], RoutingSpec()).model_dump_json())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", "--allow-no-auth", "--topology", str(topology), "--port", str(port),
        *argv,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            await answers(client, "/readyz", 200, 60)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Paused:
    """Streams a word, waits for the test, streams the rest."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, call: FakeCall) -> None:
        if b"stream" not in call.body:
            await decode_well(call)
            return
        call.started()
        call.data(*words("Hel"))
        await self.go_on.wait()
        call.data(*words("lo"), b"data: [DONE]\n\n")
        call.finished()


async def test_after_sigterm_streams_finish_and_nobody_else_is_served(tmp_path: Path) -> None:
    paused = Paused()
    worker = fake("decode", "d0", paused)
    async with (
        worker.serving(),
        routing(tmp_path, worker) as (process, url),
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        async with client.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
            received = answer.aiter_bytes()
            assert await anext(received) == words("Hel")[0]
            process.terminate()
            await answers(client, "/readyz", 503)
            refused = await client.post("/v1/chat/completions", json=CHAT)
            assert (refused.status_code, refused.headers["connection"]) == (503, "close")
            assert int(refused.headers["retry-after"]) > 0
            assert (await client.get("/healthz")).status_code == 200
            paused.go_on.set()
            rest = b"".join([chunk async for chunk in received])
            assert rest.endswith(b"data: [DONE]\n\n")
        async with asyncio.timeout(30):  # and not for its grace period
            assert await process.wait() == 0


async def test_after_the_grace_period_streams_end_with_a_typed_error(tmp_path: Path) -> None:
    worker = fake("decode", "d0", Paused())
    async with worker.serving(), routing(tmp_path, worker, "--grace", "0.3") as (process, url):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            async with client.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
                received = answer.aiter_bytes()
                await anext(received)
                process.terminate()
                *_, error, done, _ = b"".join([chunk async for chunk in received]).split(b"\n\n")
            assert json.loads(error.removeprefix(b"data: "))["error"]["message"] == "the router is shutting down"
            assert done == b"data: [DONE]"
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def test_help_names_every_option_and_what_it_is_for() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", "--help", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    for option in (
        "--topology",
        "--kubernetes",
        "--namespace",
        "--lame-duck",
        "--host",
        "--port",
        "--grace",
        "--tls",
        "--server-timing",
        "--otlp-endpoint",
    ):
        assert option in out.decode()


async def test_a_router_without_a_topology_says_what_it_needs() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "--topology FILE and --kubernetes" in err.decode()


async def test_a_router_that_finds_no_cluster_says_where_it_looked(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", "--allow-no-auth", "--kubernetes",
        env={**os.environ, "KUBECONFIG": str(tmp_path / "none")},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 2
    assert str(tmp_path / "none") in err.decode()


async def refused_start(*argv: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", "--virtual-alone", "--port", "0", *argv,
        env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 2
    return " ".join(err.decode().split())


async def test_a_start_without_any_authentication_is_refused_with_what_to_do() -> None:
    said = await refused_start()
    for way in ("--api-key-file", "--registry-url", "--allow-no-auth"):
        assert way in said


async def test_keys_that_no_one_could_use_or_everyone_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short\n")
    assert "at least 16" in await refused_start("--api-key-file", str(tmp_path / "short"))
    (tmp_path / "key").write_text("0123456789abcdef\n")
    both = await refused_start("--api-key-file", str(tmp_path / "key"), "--allow-no-auth")
    assert "lets everybody in" in both
    said = await refused_start("--key-store", TANDEM_ROUTER_API_KEY="0123456789abcdef")
    assert "--registry-url" in said
    assert "0123456789abcdef" not in said


async def test_a_key_of_the_environment_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_ROUTER_API_KEY", "0123456789abcdef")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tandem_router", "--virtual-alone", "--port", str(port),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await answers(client, "/readyz", 200, 60)
            assert (await client.get("/v1/models")).status_code == 401
            shown = await client.get("/v1/models", headers={"x-api-key": "0123456789abcdef"})
            assert shown.status_code == 200
    finally:
        process.kill()
        await process.wait()
