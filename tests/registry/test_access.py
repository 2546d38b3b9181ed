"""Who gets in, and how far."""

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from tandem_api.registry import key_digest
from tandem_registry.access import Keys
from tandem_registry.app import Surroundings
from tandem_registry.database import database_url
from tandem_registry.settings import Settings

from tests.loopback import free_port
from tests.registry.house import Clock, House, code, listening

STATIC, SERVICE = "static-key-of-the-house", "service-key-of-the-house"


@pytest.fixture
def guarded(settings: Settings, clock: Clock) -> Iterator[House]:
    keys = Keys(key_digest(STATIC), key_digest(SERVICE))
    with listening(replace(settings, keys=keys), Surroundings(clock=clock)) as house:
        house.client.headers["Authorization"] = f"Bearer {STATIC}"
        yield house


def ask(
    house: House, key: str | None, method: str = "GET", path: str = "registry/models", **more: object
) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.request(method, f"{house.url}/admin/v1/{path}", headers=headers, timeout=60, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["registry/models", "repository/models", "keys", "keys/snapshot", "nothing"])
@pytest.mark.parametrize("key", [None, "wrong", STATIC[:-1], f"{STATIC}x"])
def test_without_a_valid_key_nothing_is_told(guarded: House, path: str, key: str | None) -> None:
    answer = ask(guarded, key, path=path)
    assert code(answer) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_without_a_key_no_body_is_looked_at(guarded: House) -> None:
    assert code(ask(guarded, None, "POST", content=b"{", path="registry/models")) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_probes_metrics_and_the_description_are_open(guarded: House, path: str) -> None:
    assert httpx.get(guarded.url + path, timeout=60).status_code == 200


def test_an_admin_key_does_everything_and_is_named_in_the_history(guarded: House) -> None:
    key = guarded.post("keys", id="ops", scopes=["admin"])["key"]
    guarded.client.headers["Authorization"] = f"Bearer {key}"
    guarded.model("llama", "v1", active="v1")
    (entry,) = guarded.get("registry/models/llama/history")["data"]
    assert (entry["by"], entry["key"]) == ("ops", "ops")


@pytest.mark.parametrize("scopes", [["inference"], ["read_only"], ["training", "inference", "read_only"]])
def test_a_key_without_the_scope_admin_gets_no_further(guarded: House, scopes: list[str]) -> None:
    key = guarded.post("keys", id="team", scopes=scopes)["key"]
    assert code(ask(guarded, key)) == (403, "insufficient_scope")


def test_a_key_ends_at_once_when_it_is_revoked_rotated_or_expired(guarded: House, clock: Clock) -> None:
    keys = {id: guarded.post("keys", id=id, scopes=["admin"])["key"] for id in ("a", "b", "c")}
    assert all(ask(guarded, key).is_success for key in keys.values())
    guarded.delete("keys/a")
    rotated = guarded.post("keys/b/rotate")["key"]
    guarded.client.put("/admin/v1/keys/c/expiry", json={"expires_at": "2026-03-01T12:00:10Z"})
    clock.forward(seconds=10)
    assert [ask(guarded, key).status_code for key in keys.values()] == [401, 401, 401]
    assert ask(guarded, rotated).is_success


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "registry/models", True),
        ("GET", "registry/resolve?source=registry://llama", True),
        ("GET", "repository/models", True),
        ("GET", "keys/snapshot", True),
        ("PUT", "registry/models/llama/versions/v1/uses/default/chat", True),
        ("DELETE", "registry/models/llama/versions/v1/uses/default/chat", True),
        ("PUT", "experiments/e1/outcome", True),
        ("GET", "keys", False),
        ("GET", "keys/ops", False),
        ("POST", "keys", False),
        ("POST", "registry/models", False),
        ("POST", "registry/models/llama/activate", False),
        ("DELETE", "registry/models/llama/versions/v1", False),
        ("POST", "repository/uploads", False),
        ("PUT", "repository/models/acme/uses/x", False),
        ("DELETE", "repository/models/acme", False),
    ],
)
def test_the_service_key_is_for_what_services_need(guarded: House, method: str, path: str, allowed: bool) -> None:
    assert (ask(guarded, SERVICE, method, path).status_code != 403) is allowed


def test_requests_are_counted_by_route(guarded: House) -> None:
    guarded.model("llama")
    guarded.get("registry/models/llama")
    ask(guarded, None, path="registry/models/secret")
    counted = 'method="GET",route="/admin/v1/registry/models/{name}",status="200"} 1.0'
    end = time.monotonic() + 60
    while counted not in (text := httpx.get(f"{guarded.url}/metrics", timeout=60).text):
        assert time.monotonic() < end, text  # it is counted once its answer is away
    assert "secret" not in text


def test_a_database_that_is_away_is_a_503_and_the_probe_of_liveness_goes_on(settings: Settings, clock: Clock) -> None:
    nowhere = database_url(f"postgresql://user:hush@127.0.0.1:{free_port()}/registry")
    keys = Keys(key_digest(STATIC), key_digest(SERVICE))
    with listening(replace(settings, database=nowhere, keys=keys), Surroundings(clock=clock)) as house:
        for key in (STATIC, "of-the-store"):
            answer = ask(house, key)
            assert code(answer) == (503, "database_unavailable")
            assert "hush" not in answer.text
        assert [httpx.get(f"{house.url}/{probe}", timeout=60).status_code for probe in ("readyz", "healthz")] == [
            503,
            200,
        ]
