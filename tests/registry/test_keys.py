"""The key store: shown once, kept as hashes, and told to routers with every change."""

import re
from typing import Any

import pytest
from sqlalchemy import text
from tandem_api.registry import key_digest
from tandem_registry.database import Database

from tests.registry.house import Clock, House, code


def create(house: House, id: str = "team-a", scopes: tuple[str, ...] = ("inference",), **more: Any) -> dict[str, Any]:
    return house.post("keys", id=id, scopes=scopes, **more)


def snapshot(house: House) -> dict[str, Any]:
    found = house.get("keys/snapshot")
    return {key["id"]: key["sha256"] for key in found["keys"]}


def test_a_key_is_shown_once_and_kept_as_a_hash(house: House) -> None:
    key = create(house)["key"]
    assert re.fullmatch("tandem_[0-9a-f]{64}", key)
    assert "key" not in house.get("keys/team-a")
    assert snapshot(house) == {"team-a": key_digest(key)}
    database = Database(house.settings.database)
    with database.reading() as session:
        stored = str(session.execute(text("SELECT * FROM keys")).all())
    database.close()
    assert key not in stored
    assert key.removeprefix("tandem_") not in stored


def test_no_two_keys_are_alike(house: House) -> None:
    assert create(house, "a")["key"] != create(house, "b")["key"]


@pytest.mark.parametrize(
    "given",
    [
        {"id": "", "scopes": ["inference"]},
        {"id": "a", "scopes": []},
        {"id": "a", "scopes": ["root"]},
        {"id": "a", "scopes": ["inference"], "expires_at": "2026-03-01T11:59:00Z"},
        {"id": "a", "scopes": ["inference"], "expires_at": "2027-03-01T11:59:00"},
        {"id": "a", "scopes": ["inference"], "limits": {"requests_per_minute": 0}},
    ],
)
def test_a_key_that_means_nothing_is_refused(house: House, given: dict[str, Any]) -> None:
    assert code(house.client.post("/admin/v1/keys", json=given)) == (400, "invalid_request")


def test_an_id_is_given_once_even_after_its_key_was_revoked(house: House) -> None:
    create(house)
    house.delete("keys/team-a")
    answer = house.client.post("/admin/v1/keys", json={"id": "team-a", "scopes": ["inference"]})
    assert code(answer) == (409, "already_exists")


def test_a_rotated_key_has_the_same_id_and_scopes_and_another_hash(house: House, clock: Clock) -> None:
    first = create(house, limits={"tokens_per_minute": 9})
    clock.forward(days=1)
    second = house.post("keys/team-a/rotate")
    assert second["key"] != first["key"]
    same = ("id", "scopes", "limits", "created_at")
    assert [second[name] for name in same] == [first[name] for name in same]
    assert second["rotated_at"] == "2026-03-02T12:00:00Z"
    assert snapshot(house) == {"team-a": key_digest(second["key"])}


def test_a_revoked_key_is_gone_for_routers_and_stays_so(house: House, clock: Clock) -> None:
    create(house)
    revoked = house.delete("keys/team-a").json()
    clock.forward(days=1)
    assert house.delete("keys/team-a").json() == revoked
    assert snapshot(house) == {}
    assert house.get("keys")["data"] == []
    assert [key["id"] for key in house.get("keys", revoked="true")["data"]] == ["team-a"]
    assert code(house.client.post("/admin/v1/keys/team-a/rotate")) == (409, "key_revoked")


def test_an_expired_key_is_gone_for_routers(house: House, clock: Clock) -> None:
    create(house, expires_at="2026-03-01T13:00:00Z")
    assert house.get("keys/snapshot")["keys"][0]["expires_at"] == "2026-03-01T13:00:00Z"
    clock.forward(hours=1)
    assert snapshot(house) == {}


def test_an_expiry_can_be_set_and_taken_away(house: House, clock: Clock) -> None:
    create(house)
    expiry = "/admin/v1/keys/team-a/expiry"
    assert house.client.put(expiry, json={"expires_at": "2026-03-01T12:00:01Z"}).is_success
    clock.forward(seconds=2)
    assert snapshot(house) == {}
    assert house.client.put(expiry, json={"expires_at": None}).is_success
    assert len(snapshot(house)) == 1


def test_every_change_is_another_version_and_nothing_else_is(house: House) -> None:
    def asked(etag: str) -> tuple[int, str]:
        answer = house.client.get("/admin/v1/keys/snapshot", headers={"If-None-Match": etag})
        return answer.status_code, answer.headers["etag"]

    _, etag = asked('"none"')
    for change in (
        lambda: create(house),
        lambda: house.post("keys/team-a/rotate"),
        lambda: house.client.put("/admin/v1/keys/team-a/expiry", json={"expires_at": None}),
        lambda: house.delete("keys/team-a"),
    ):
        assert asked(etag) == (304, etag)
        change()
        status, other = asked(etag)
        assert (status, other != etag) == (200, True)
        etag = other
    house.client.post("/admin/v1/keys", json={"id": "team-a", "scopes": ["inference"]})  # 409
    assert asked(etag) == (304, etag)


def test_limits_and_scopes_reach_the_routers(house: House) -> None:
    create(house, scopes=("read_only", "inference", "inference"), limits={"requests_per_minute": 60})
    (key,) = house.get("keys/snapshot")["keys"]
    assert key["scopes"] == ["inference", "read_only"]
    assert key["limits"] == {"requests_per_minute": 60, "tokens_per_minute": None}
