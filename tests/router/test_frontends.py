"""The paths of a router, as the official client and plain HTTP see them."""

import re
import uuid

import openai
import pytest
import yaml

from tests.router.house import CHAT, MODEL, STREAM, OpenHouse, fake


async def test_a_chat_is_answered_whole(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        answer = await h.openai().chat.completions.create(**CHAT)
        assert answer.choices[0].message.content == "Hello world"
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 2
        assert answer.id.startswith("chatcmpl-")


async def test_a_chat_is_streamed(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        stream = await h.openai().chat.completions.create(**STREAM)
        texts = [chunk.choices[0].delta.content async for chunk in stream]
        assert texts == ["Hello", " world"]


async def test_the_workers_get_the_bytes_that_the_client_sent(open_house: OpenHouse) -> None:
    body = b'{ "messages":[{"role":"user","content":"\\u00e9"}],\n "model": "org/m", "made_up": 1e400 }'
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        assert (await h.http.post("/v1/chat/completions", content=body)).status_code == 200
        assert h.prefill[0].calls[0].body == body
        assert h.decode[0].calls[0].body == body


async def test_a_large_body_comes_to_the_workers_in_pieces_and_whole(open_house: OpenHouse) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * 5_000_000}]}
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        assert (await h.chat(body)).status_code == 200
        assert h.prefill[0].calls[0].body == h.decode[0].calls[0].body
        assert max(message.ByteSize() for message in h.prefill[0].messages) <= 256 * 1024


async def test_both_workers_get_the_id_that_can_be_read_back(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")]) as h:
        id = (await h.chat()).json()["id"]
        assert h.prefill[0].calls[0].submit.response_id == id
        origin = h.router.ids.read("chatcmpl-", id)
        assert origin is not None
        assert (origin.service, origin.version) == ("default/m", "v1")


async def test_models_are_listed_and_got_by_an_id_with_slashes(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        client = h.openai()
        assert [(m.id, m.created) async for m in client.models.list()] == [(MODEL, 7)]
        assert (await client.models.retrieve(MODEL)).id == MODEL
        with pytest.raises(openai.NotFoundError, match="org/other"):
            await client.models.retrieve("org/other")


async def test_an_unknown_model_is_not_served_by_another(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        with pytest.raises(openai.NotFoundError) as caught:
            await h.openai().chat.completions.create(**{**CHAT, "model": "gpt-9"})
        assert caught.value.code == "model_not_found"
        assert caught.value.param == "model"
        assert not h.decode[0].calls


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b'"text"', None, "must be a JSON object"),
        (b'{"messages": []}', "model", "you must provide a model"),
        (b'{"model": 3}', "model", "expected str, got int"),
        (b'{"model": "org/m", "stream": "yes"}', "stream", "expected bool"),
        (b'{"model": "\xff"}', None, "not valid JSON"),
    ],
)
async def test_a_wrong_body_is_a_400_that_names_the_member(
    open_house: OpenHouse, body: bytes, param: str | None, says: str
) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        answer = await h.http.post("/v1/chat/completions", content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert says in error["message"]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
async def test_a_body_over_the_limit_is_a_413(open_house: OpenHouse, declared: bool) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        for _ in range(11):
            yield b" " * 2**20

    async with open_house(decode=[fake("decode", "d0")]) as h:
        content = b" " * (10 * 2**20 + 1) if declared else pieces()
        answer = await h.http.post("/v1/chat/completions", content=content)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert (await h.chat()).status_code == 200


async def test_wrong_paths_and_methods_have_openais_error_shape(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        for method, path, status in (
            ("GET", "/v1/nothing", 404),
            ("POST", "/v1/models", 405),
            ("GET", "/v1/chat/completions", 405),
            ("DELETE", "/healthz", 405),
        ):
            answer = await h.http.request(method, path)
            assert answer.status_code == status, path
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"


async def test_every_response_has_the_security_headers_and_its_request_id(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        answers = [
            await h.http.get("/healthz"),
            await h.http.get("/nothing"),
            await h.chat(),
            await h.chat(STREAM),
            await h.chat({"model": "nobody"}),
        ]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            uuid.UUID(answer.headers["x-request-id"], version=4)
        assert [a.headers["cache-control"] for a in answers] == ["no-store"] * 3 + ["no-cache", "no-store"]


async def test_a_request_id_is_echoed_unless_it_is_odd(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        for path in ("/healthz", "/v1/chat/completions"):
            method = "GET" if path == "/healthz" else "POST"
            given = await h.http.request(method, path, headers={"x-request-id": "abc-1"})
            assert given.headers["x-request-id"] == "abc-1"
            odd = await h.http.request(method, path, headers={"x-request-id": "x" * 500})
            assert odd.headers["x-request-id"] != "x" * 500


async def test_the_description_names_all_paths_in_both_formats(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        as_json = (await h.http.get("/openapi.json")).json()
        as_yaml = await h.http.get("/openapi.yaml")
        assert as_yaml.headers["content-type"].startswith("application/yaml")
        assert yaml.safe_load(as_yaml.text) == as_json
        assert as_json["openapi"].startswith("3.1")
        assert {"/v1/chat/completions", "/v1/completions", "/v1/models/{id}", "/readyz"} <= set(as_json["paths"])


async def test_server_timing_tells_how_kv_came(open_house: OpenHouse) -> None:
    async with open_house([fake("prefill", "p0")], [fake("decode", "d0")], server_timing=True) as h:
        timing = (await h.chat(STREAM)).headers["server-timing"]
        wanted = r'prefill;dur=[\d.]+, kv;dur=9\.1;desc="transferred bytes=2048 blocks=2 connector=grpc peer=p0"'
        assert re.fullmatch(wanted, timing)


async def test_server_timing_is_silent_unless_asked_for(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        assert "server-timing" not in (await h.chat(STREAM)).headers


async def test_head_is_get_without_a_body(open_house: OpenHouse) -> None:
    async with open_house(decode=[fake("decode", "d0")]) as h:
        answer = await h.http.head("/healthz")
        assert (answer.status_code, answer.content) == (200, b"")
