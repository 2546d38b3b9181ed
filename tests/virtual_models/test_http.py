"""Virtual models behind a real router on a free port, asked by the official clients."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from tandem_api.registry import key_digest
from tandem_router.access.settings import AccessSettings
from tandem_router.virtual.settings import VirtualSettings
from tandem_virtual.defaults import register_defaults
from tandem_virtual.registry import Registries

from tests.router.house import MODEL, House, fake, house
from tests.virtual_models.asking import HELLO, SURFACES, request

MODELS = """
models:
- {id: mine, content: Declared by a file.}
- {id: m-slow, content: late, delay: 60s}
- {id: to-real, type: proxy, protocols: [openai], delegateModel: org/m}
- {id: to-nobody, type: proxy, delegateModel: nobody}
"""
PATHS = {"chat": "chat/completions", "responses": "responses", "messages": "messages"}


def settings(folder: Path, more: str = "", **given: Any) -> VirtualSettings:
    (folder / "models.yaml").write_text(MODELS + more)
    return VirtualSettings(models=folder / "models.yaml", failures=True, **given)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[House]:
    """A router without workers."""
    async with house(tmp_path, virtual=settings(tmp_path)) as here:
        yield here


def openai_client(here: House, base: str = "/virtual/v1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=here.url + base, api_key="none", max_retries=0)


def anthropic_client(here: House, base: str = "/virtual") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=here.url + base, api_key="none", max_retries=0)


@pytest.mark.parametrize("base", ["/virtual/v1", "/virtual/openai/v1"])
async def test_openais_client_has_the_same_of_a_stream(served: House, base: str) -> None:
    client = openai_client(served, base)
    whole = await client.chat.completions.create(model="ask-confirmation", messages=HELLO)
    async with client.chat.completions.stream(model="ask-confirmation", messages=HELLO) as stream:
        streamed = await stream.get_final_completion()
    message, gathered = whole.choices[0].message, streamed.choices[0].message
    assert (message.content, whole.choices[0].finish_reason) == (gathered.content, "tool_calls")
    assert message.tool_calls
    assert gathered.tool_calls
    assert message.tool_calls[0].function.arguments == gathered.tool_calls[0].function.arguments
    assert whole.id != streamed.id


@pytest.mark.parametrize("base", ["/virtual", "/virtual/anthropic"])
async def test_anthropics_client_has_the_same_of_a_stream(served: House, base: str) -> None:
    client = anthropic_client(served, base)
    whole = await client.messages.create(model="virtual-claude-3", max_tokens=99, messages=HELLO)
    async with client.messages.stream(model="virtual-claude-3", max_tokens=99, messages=HELLO) as stream:
        streamed = await stream.get_final_message()
    assert whole.content[0].to_dict() == streamed.content[0].to_dict()
    assert whole.usage == streamed.usage
    assert whole.id != streamed.id


async def test_the_beta_schema_is_taken(served: House) -> None:
    message = await anthropic_client(served).beta.messages.create(model="mine", max_tokens=99, messages=HELLO)
    assert message.content[0].to_dict()["text"] == "Declared by a file."


async def test_tokens_are_counted(served: House) -> None:
    count = await anthropic_client(served).messages.count_tokens(model="virtual-claude-3", messages=HELLO)
    assert count.input_tokens == 8


async def test_responses_are_had_by_openais_client(served: House) -> None:
    client = openai_client(served)
    whole = await client.responses.create(model="mine", input="Hello world")
    async with client.responses.stream(model="mine", input="Hello world") as stream:
        streamed = await stream.get_final_response()
    assert whole.output_text == streamed.output_text == "Declared by a file."
    assert whole.usage == streamed.usage
    assert whole.store is False  # type: ignore[attr-defined]  # a member that the client's types leave out


async def test_each_list_has_the_models_of_its_protocols(served: House) -> None:
    registries = Registries()
    register_defaults(registries)
    of_openai = [model.id async for model in openai_client(served, "/virtual/openai/v1").models.list()]
    of_anthropic = [model.id async for model in anthropic_client(served, "/virtual/anthropic").models.list()]
    both = (await served.http.get("/virtual/v1/models")).json()["data"]
    assert {model.id for model in registries.openai.list()} < set(of_openai)
    assert {model.id for model in registries.anthropic.list()} < set(of_anthropic)
    assert [entry["id"] for entry in both] == sorted({*of_openai, *of_anthropic})
    assert set(of_openai) != set(of_anthropic)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_comes_before_a_stream(served: House, surface: str, stream: bool) -> None:
    body = request(surface, "virtual-fail-429", stream=stream)
    answer = await served.http.post(f"/virtual/v1/{PATHS[surface]}", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["type"] == "rate_limit_error"


async def read(served: House, surface: str, id: str) -> tuple[str, bool]:
    """What came of a stream, and whether it was cut."""
    came = ""
    body = request(surface, id, stream=True)
    async with served.http.stream("POST", f"/virtual/v1/{PATHS[surface]}", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers.get_list("cache-control") == ["no-cache"]
        try:
            async for text in answer.aiter_text():
                came += text
        except httpx.RemoteProtocolError:
            return came, True
    return came, False


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_stream_fails_as_its_model_says(served: House, surface: str) -> None:
    closed, was_cut = await read(served, surface, "virtual-fail-midstream-close")
    assert was_cut
    assert "These are" in closed
    clean, was_cut = await read(served, surface, "virtual-fail-midstream-cleaneof")
    assert not was_cut
    assert "These are" in clean
    assert "[DONE]" not in clean
    assert "message_stop" not in clean
    event, was_cut = await read(served, surface, "virtual-fail-midstream-event")
    assert not was_cut
    assert "the stream failed on purpose" in event


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_whole_answer_is_cut_before_its_first_byte(served: House, surface: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await served.http.post(f"/virtual/v1/{PATHS[surface]}", json=request(surface, "virtual-fail-midstream-close"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_ends_the_wait(served: House, stream: bool) -> None:
    body = request("chat", "m-slow", stream=stream)
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(client.post("/virtual/v1/chat/completions", json=body))
        await served.until(lambda: served.router.measures.active == 1)
        asking.cancel()
    await served.at_rest()


@pytest.mark.parametrize(
    ("surface", "id"), [("chat", "virtual-claude-3"), ("messages", "virtual-gpt-4"), ("responses", "nobody")]
)
async def test_what_is_not_behind_a_path_is_not_found(served: House, surface: str, id: str) -> None:
    answer = await served.http.post(f"/virtual/v1/{PATHS[surface]}", json=request(surface, id))
    assert answer.status_code == 404
    assert id in answer.json()["error"]["message"]


async def test_a_body_that_is_too_large_is_refused_in_the_paths_shape(tmp_path: Path) -> None:
    async with house(tmp_path, max_body_bytes=100) as here:
        answer = await here.http.post("/virtual/v1/messages", content=b" " * 101)
        assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")
        answer = await here.http.post("/virtual/v1/responses", content=b" " * 101)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_router_that_ends_waits_for_virtual_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem_router.router.LAST_CALL_SECONDS", 3.0)  # which the end of a stream is read within
    two = "- {id: two, streamChunks: [a, b], delay: 1s}"
    async with house(tmp_path, virtual=settings(tmp_path, two)) as here:
        body = {**request("chat", "two"), "stream": True}
        async with here.http.stream("POST", "/virtual/v1/chat/completions", json=body) as answer:
            received = answer.aiter_bytes()
            await anext(received)
            draining = asyncio.create_task(here.router.drain())
            rest = b"".join([chunk async for chunk in received])
            assert rest.endswith(b"data: [DONE]\n\n")
            assert not draining.done()
        async with asyncio.timeout(60):
            await draining


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("surface", SURFACES)
async def test_after_the_grace_period_virtual_answers_end_with_a_typed_error(
    tmp_path: Path, surface: str, stream: bool
) -> None:
    async with house(tmp_path, virtual=settings(tmp_path), grace=0.1) as here:
        body = {**request(surface, "m-slow"), "stream": stream}
        begun = asyncio.Event()

        async def ask() -> tuple[int, bytes]:
            async with here.http.stream("POST", f"/virtual/v1/{PATHS[surface]}", json=body) as answer:
                begun.set()
                return answer.status_code, await answer.aread()

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask())
            await (begun.wait() if stream else here.until(lambda: here.router.open))
            tasks.create_task(here.router.drain())
        status, content = asking.result()
        assert status == (200 if stream else 503)
        assert b"the router is shutting down" in content
        assert (b"event: error" in content) is (stream and surface != "chat")
        assert not here.router.open


@pytest.mark.parametrize("stream", [False, True])
async def test_a_proxy_has_a_real_model_answer(tmp_path: Path, stream: bool) -> None:
    async with house(tmp_path, decode=[fake("decode", "d0")], virtual=settings(tmp_path)) as here:
        direct = await here.http.post("/v1/chat/completions", json=request("chat", MODEL, stream=stream))
        proxied = await here.http.post("/virtual/v1/chat/completions", json=request("chat", "to-real", stream=stream))
        assert direct.status_code == proxied.status_code == 200
        assert len(proxied.content) == len(direct.content)
        assert proxied.headers["content-type"] == direct.headers["content-type"]
        assert len(proxied.headers.get_list("x-request-id")) == 1


async def test_a_proxy_to_nobody_says_so(served: House) -> None:
    for surface in SURFACES:
        answer = await served.http.post(f"/virtual/v1/{PATHS[surface]}", json=request(surface, "to-nobody"))
        assert (answer.status_code, "nobody" in answer.json()["error"]["message"]) == (404, True)


async def test_virtual_models_are_not_in_v1_unless_they_are_listed(served: House) -> None:
    owners = {entry["owned_by"] for entry in (await served.http.get("/v1/models")).json()["data"]}
    assert owners == {"tandem"}
    answer = await served.http.post("/v1/chat/completions", json=request("chat", "mine"))
    assert answer.status_code == 404


async def test_listed_models_answer_on_all_surfaces_after_the_real_ones(tmp_path: Path) -> None:
    virtual = settings(tmp_path, f"- {{id: {MODEL}, content: A virtual namesake.}}", listed=True)
    async with house(tmp_path, decode=[fake("decode", "d0")], virtual=virtual) as here:
        for surface in SURFACES:
            for id in ("mine", "virtual-gpt-4", "virtual-claude-3"):
                answer = await here.http.post(f"/v1/{PATHS[surface]}", json=request(surface, id))
                assert answer.status_code == 200, answer.text
        listed = [entry["id"] for entry in (await here.http.get("/v1/models")).json()["data"]]
        assert listed.count(MODEL) == 1
        assert "mine" in listed
        assert (await here.http.get("/v1/models/mine")).json()["owned_by"] == "tandem-virtual"
        real = await here.http.post("/v1/chat/completions", json=request("chat", MODEL))
        assert "A virtual namesake." not in real.text
        large = request("chat", "mine", messages=[{"role": "user", "content": "x" * 500_000}])
        assert (await here.http.post("/v1/chat/completions", json=large)).status_code == 200
        large["model"] = MODEL
        assert (await here.http.post("/v1/chat/completions", json=large)).status_code == 200


async def test_virtual_models_can_be_switched_off(tmp_path: Path) -> None:
    async with house(tmp_path, virtual=VirtualSettings(enabled=False)) as here:
        assert (await here.http.get("/virtual/v1/models")).status_code == 404
        assert (await here.http.post("/virtual/v1/chat/completions", json={})).status_code == 404


async def test_failures_are_not_there_unless_they_are_switched_on(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        answer = await here.http.post("/virtual/v1/chat/completions", json=request("chat", "virtual-fail-429"))
        assert answer.status_code == 404


KEY = {"Authorization": "Bearer secret"}
KEYED = AccessSettings(static=key_digest("secret"))


async def test_a_model_is_added_and_removed_by_the_admin_api(tmp_path: Path) -> None:
    async with house(tmp_path, access=KEYED) as here:
        declared = {"id": "a/b", "content": "Just added.", "protocols": ["openai"]}
        added = await here.http.post("/virtual/admin/models", json=declared, headers=KEY)
        assert (added.status_code, added.json()["protocols"]) == (201, ["openai"])
        answer = await here.http.post("/virtual/v1/chat/completions", json=request("chat", "a/b"), headers=KEY)
        assert answer.json()["choices"][0]["message"]["content"] == "Just added."
        assert (await here.http.post("/virtual/admin/models", json=declared, headers=KEY)).status_code == 409
        everyone = (await here.http.get("/virtual/admin/models", headers=KEY)).json()["models"]
        assert [entry["id"] for entry in everyone] == sorted(entry["id"] for entry in everyone)
        removed = await here.http.delete("/virtual/admin/models/a/b", headers=KEY)
        assert removed.json() == {"id": "a/b", "object": "model", "deleted": True}
        gone = await here.http.delete("/virtual/admin/models/a/b", headers=KEY)
        assert (gone.status_code, "a/b" in gone.json()["error"]["message"]) == (404, True)


async def test_a_model_is_added_to_both_protocols_or_to_none(tmp_path: Path) -> None:
    async with house(tmp_path, access=KEYED) as here:
        refused = await here.http.post("/virtual/admin/models", json={"id": "virtual-claude-3"}, headers=KEY)
        assert refused.status_code == 409
        answer = await here.http.post(
            "/virtual/v1/chat/completions", json=request("chat", "virtual-claude-3"), headers=KEY
        )
        assert answer.status_code == 404


async def test_a_declaration_that_a_page_in_a_browser_could_send_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        answer = await here.http.post("/virtual/admin/models", content=b'{"id": "m"}')
        assert answer.status_code == 415


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b'{"id": "m", "typ": "tool"}', 'typ: is not a field here; did you mean "type"?'),
        (b'{"id": "m", "type": "tool"}', "toolCall is missing"),
    ],
)
async def test_a_bad_declaration_is_refused_with_what_is_wrong(tmp_path: Path, body: bytes, says: str) -> None:
    async with house(tmp_path, access=KEYED) as here:
        answer = await here.http.post(
            "/virtual/admin/models", content=body, headers={**KEY, "Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]


async def test_one_of_several_routers_refuses_changes(tmp_path: Path) -> None:
    async with house(tmp_path, access=KEYED, virtual=VirtualSettings(replicas=2)) as here:
        for answer in (
            await here.http.post("/virtual/admin/models", json={"id": "m"}, headers=KEY),
            await here.http.delete("/virtual/admin/models/echo-model", headers=KEY),
        ):
            assert answer.status_code == 409
            assert "virtualModels.models" in answer.json()["error"]["message"]


async def test_the_description_has_all_paths(served: House) -> None:
    paths = (await served.http.get("/openapi.json")).json()["paths"]
    assert {f"/virtual/v1/{end}" for end in (*PATHS.values(), "models", "messages/count_tokens")} < set(paths)


@pytest.mark.parametrize("path", ["/virtual/anthropic/v1/nothing", "/virtual/v1/messages/nothing"])
async def test_unknown_paths_answer_in_the_shape_of_their_protocol(served: House, path: str) -> None:
    answer = await served.http.post(path, json={})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
