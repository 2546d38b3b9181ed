"""Who is let in: keys, scopes, and refusals that the official clients understand."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from tandem_api.registry import KeySnapshot, Scope, SnapshotKey, key_digest
from tandem_router.access.scopes import needed
from tandem_router.access.settings import AccessSettings

from tests.router.conftest import OpenHouse
from tests.router.house import CHAT, MODEL, STREAM, House, fake

STATIC = "the-key-of-the-installation"
SERVICE = "the-key-of-the-operator"
KEYED = AccessSettings(static=key_digest(STATIC), service_key=SERVICE)
HELLO: Any = [{"role": "user", "content": "Hello?"}]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def guarded(open_house: OpenHouse) -> AsyncIterator[House]:
    """A router that knows the static key alone, in front of one worker."""
    async with open_house(decode=[fake("decode", "d0")], access=KEYED) as h:
        await h.workers_ready(1)
        yield h


@pytest.fixture
async def stored(open_house: OpenHouse) -> AsyncIterator[House]:
    """A router whose store holds a key of each scope, `KEY-SCOPE`, by what was told of it once."""
    access = AccessSettings(static=key_digest(STATIC), service_key=SERVICE, store=True, poll=3600)
    async with open_house(decode=[fake("decode", "d0")], access=access) as h:
        scopes: tuple[Scope, ...] = ("admin", "inference", "training", "read_only")
        h.router.keys.take(KeySnapshot(version=1, keys=tuple(key(scope, scope) for scope in scopes)))
        await h.workers_ready(1)
        yield h


def key(id: str, *scopes: Scope, **fields: Any) -> SnapshotKey:
    told = {"id": id, "sha256": key_digest(f"KEY-{id}"), "scopes": scopes, "expires_at": None, "limits": {}}
    return SnapshotKey.model_validate(told | fields)


async def test_every_path_but_probes_metrics_and_openapi_needs_a_key(guarded: House) -> None:
    described = (await guarded.http.get("/openapi.json")).json()["paths"]
    asked = {(method, path.replace("{id}", "x")) for path, methods in described.items() for method in methods}
    asked |= {("get", "/nothing/here"), ("delete", "/v1/models/x"), ("get", "/admin/v1/keys"), ("get", "//healthz")}
    let_in = set()
    for method, path in asked:
        if (await guarded.http.request(method.upper(), path)).status_code != 401:
            let_in.add(path)
    assert let_in == {"/healthz", "/readyz", "/metrics"}
    assert (await guarded.http.get("/openapi.yaml")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [bearer(STATIC), {"authorization": f"bearer  {STATIC}"}, {"x-api-key": STATIC}],
    ids=["bearer", "spelt otherwise", "x-api-key"],
)
async def test_a_key_is_read_from_either_header(guarded: House, headers: dict[str, str]) -> None:
    assert (await guarded.chat(headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"Authorization": "Bearer"}, "missing_api_key"),
        ({"Authorization": f"Basic {STATIC}"}, "missing_api_key"),
        (bearer(STATIC.upper()), "invalid_api_key"),
        (bearer(key_digest(STATIC)), "invalid_api_key"),
        ({"x-api-key": "w\xf6rong".encode("latin-1")}, "invalid_api_key"),
    ],
    ids=["none", "empty", "basic", "another case", "its digest", "not ASCII"],
)
async def test_no_key_or_a_wrong_one_gets_a_401_that_says_so(guarded: House, headers: Any, code: str) -> None:
    answer = await guarded.chat(headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (401, "authentication_error", code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-request-id"]
    assert not guarded.decode[0].calls


@pytest.mark.parametrize("base", ["/v1", "/virtual/v1", "/virtual/openai/v1"])
async def test_openais_client_knows_what_a_refusal_means(stored: House, base: str) -> None:
    async with openai.AsyncOpenAI(base_url=stored.url + base, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as stranger:
            await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        assert stranger.value.code == "invalid_api_key"
        reader = client.with_options(api_key="KEY-read_only")
        with pytest.raises(openai.PermissionDeniedError, match="inference"):
            await reader.chat.completions.create(model=MODEL, messages=HELLO)
        assert [model.id async for model in reader.models.list()]


@pytest.mark.parametrize("base", ["", "/virtual", "/virtual/anthropic"])
async def test_anthropics_client_knows_what_a_refusal_means(stored: House, base: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=stored.url + base, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError) as stranger:
            await client.messages.create(model=MODEL, messages=HELLO, max_tokens=5)
        assert stranger.value.type == "authentication_error"
        with pytest.raises(anthropic.PermissionDeniedError):
            await client.with_options(api_key="KEY-training").messages.create(model=MODEL, messages=HELLO, max_tokens=5)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("DELETE", "/v1/models/x", "admin"),
        ("POST", "/v1/embeddings", "inference"),
        ("POST", "/v1/feedback", "inference"),
        ("POST", "/virtual/v1/chat/completions", "inference"),
        ("GET", "/v1/models", "read_only"),
        ("GET", "/v1/anything", "read_only"),
        ("GET", "/tandem/v1/status", "read_only"),
        ("GET", "/admin/v1/keys", "admin"),
        ("GET", "/virtual/admin/models", "admin"),
        ("HEAD", "/metrics", None),
        ("GET", "/healthz", None),
    ],
)
def test_a_path_needs_its_scope(method: str, path: str, scope: str | None) -> None:
    assert needed(method, path) == scope


@pytest.mark.parametrize(
    ("scope", "may"),
    [
        ("admin", {"ask", "list", "administer"}),
        ("inference", {"ask", "list"}),
        ("read_only", {"list"}),
        ("training", set()),
    ],
)
async def test_a_scope_allows_what_it_includes_and_no_more(stored: House, scope: str, may: set[str]) -> None:
    headers = bearer(f"KEY-{scope}")
    statuses = {
        "ask": (await stored.chat(headers=headers)).status_code,
        "list": (await stored.http.get("/v1/models", headers=headers)).status_code,
        "administer": (await stored.http.get("/virtual/admin/models", headers=headers)).status_code,
    }
    assert statuses == {what: 200 if what in may else 403 for what in statuses}


async def test_the_operator_reads_the_status_by_the_service_key_and_does_nothing_else(guarded: House) -> None:
    assert (await guarded.http.get("/tandem/v1/status", headers=bearer(SERVICE))).status_code == 200
    assert (await guarded.chat(headers=bearer(SERVICE))).status_code == 403
    assert (await guarded.http.get("/virtual/admin/models", headers=bearer(SERVICE))).status_code == 403


async def test_virtual_models_are_open_where_that_is_set_but_not_their_administration(open_house: OpenHouse) -> None:
    access = AccessSettings(static=key_digest(STATIC), virtual_open=True)
    async with open_house(access=access) as h:
        request = {"model": "echo-model", "messages": HELLO}
        assert (await h.http.post("/virtual/v1/chat/completions", json=request)).status_code == 200
        assert (await h.http.get("/virtual/admin/models")).status_code == 401
        assert (await h.http.get("/v1/models")).status_code == 401


async def test_a_key_that_has_expired_is_refused(stored: House) -> None:
    keys = {
        "past": datetime.now(UTC) - timedelta(seconds=1),
        "future": datetime.now(UTC) + timedelta(hours=1),
    }
    stored.router.keys.take(
        KeySnapshot(version=2, keys=tuple(key(id, "inference", expires_at=at) for id, at in keys.items()))
    )
    assert [(await stored.chat(headers=bearer(f"KEY-{id}"))).status_code for id in keys] == [401, 200]


async def test_no_key_is_ever_logged_or_shown(
    stored: House, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    await stored.chat(headers=bearer("KEY-inference"))
    await stored.chat(headers={"x-api-key": "some-wrong-key"})
    await stored.http.get("/v1/models", headers=bearer("KEY-read_only"))
    shown = (await stored.http.get("/metrics")).text
    shown += (await stored.http.get("/tandem/v1/status", headers=bearer(STATIC))).text
    stored.router.access_log.flush()
    logged = capfd.readouterr().err
    lines = [json.loads(line) for line in logged.splitlines() if '"message":"request"' in line]
    assert {line.get("key", "") for line in lines} >= {"inference", "read_only", ""}
    for secret in ("KEY-", "some-wrong-key", STATIC, SERVICE, key_digest("KEY-inference")):
        assert secret not in logged + shown + caplog.text


async def test_refusals_are_counted_by_path_and_by_reason(guarded: House) -> None:
    await guarded.chat()
    await guarded.http.get("/anything/at/all")
    assert await guarded.metric('tandem_router_refused_total{reason="missing_api_key"}') == 2
    assert await guarded.metric('errors_total{endpoint="/v1/chat/completions",status_code="401"}') == 1
    assert await guarded.metric('errors_total{endpoint="other",status_code="401"}') == 1


async def test_the_description_says_which_headers_take_a_key_and_what_it_has_to_be_for(guarded: House) -> None:
    described = (await guarded.http.get("/openapi.json")).json()
    assert described["security"] == [{"bearer": []}, {"key": []}]
    assert described["paths"]["/healthz"]["get"]["security"] == []
    assert described["paths"]["/v1/chat/completions"]["post"]["x-scope"] == "inference"
    assert described["paths"]["/virtual/admin/models"]["get"]["x-scope"] == "admin"
    assert {"401", "403"} <= described["paths"]["/v1/messages"]["post"]["responses"].keys()


async def test_a_connection_serves_on_after_a_refusal(guarded: House) -> None:
    big = {**CHAT, "messages": [{"role": "user", "content": "x" * 300_000}]}
    for _ in range(3):
        assert (await guarded.chat(big)).status_code == 401
        assert (await guarded.chat(STREAM, headers=bearer(STATIC))).status_code == 200


async def test_a_key_keeps_its_version_though_it_is_rotated(tmp_path: Path, open_house: OpenHouse) -> None:
    from tandem_api.inference_service import RoutingSpec

    routing = RoutingSpec.model_validate({"sticky_by": {"api_key": True}})
    workers = [fake("decode", "d1", version="v1"), fake("decode", "d2", version="v2")]
    access = AccessSettings(store=True, poll=3600)
    names = [f"user-{n}" for n in range(12)]
    async with open_house(decode=workers, routing=routing, versions=(("v1", 50), ("v2", 50)), access=access) as h:
        seen = []
        for raw in ("first", "second"):
            keys = tuple(key(name, "inference", sha256=key_digest(f"{raw}-{name}")) for name in names)
            h.router.keys.take(KeySnapshot(version=1, keys=keys))
            await h.workers_ready(2)
            before = len(workers[0].calls)
            for name in names:
                assert (await h.chat(headers=bearer(f"{raw}-{name}"))).status_code == 200
            seen.append(len(workers[0].calls) - before)
        assert seen[0] == seen[1]
        assert 0 < seen[0] < len(names)
